from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from mlfleet.errors import ConfigError
from mlfleet.hooks.base import SystemHook
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.hooks.kfp import KFPHook
from mlfleet.hooks.polyaxon import PolyaxonHook
from mlfleet.hooks.spinnaker import SpinnakerHook

HOOKS: list[type[SystemHook[Any]]] = [PolyaxonHook, KFPHook, SpinnakerHook, ContainerRegistryHook]


class Seen:
    """Answers every request and keeps it."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else httpx.Response(200, json={})


def connection(monkeypatch: pytest.MonkeyPatch, hook: type[SystemHook[Any]], **fields: Any) -> None:
    value = {"conn_type": hook.conn_type, "host": "server.test", **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{hook.default_conn_name.upper()}", json.dumps(value))


@pytest.mark.parametrize("hook", HOOKS)
def test_a_missing_connection_names_what_to_set(hook: type[SystemHook[Any]]) -> None:
    for ask in (lambda: hook("my_conn").client(), lambda: asyncio.run(hook("my_conn").aclient())):
        with pytest.raises(ConfigError) as caught:
            ask()
        assert "'my_conn'" in str(caught.value)
        assert "AIRFLOW_CONN_MY_CONN" in str(caught.value)
        assert f'"conn_type": "{hook.conn_type}"' in str(caught.value)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_connection_without_a_host_is_told(monkeypatch: pytest.MonkeyPatch, hook: type[SystemHook[Any]]) -> None:
    connection(monkeypatch, hook, host="")
    with pytest.raises(ConfigError, match="has no host"):
        hook().client()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schema": "http", "port": 8000}, "http://server.test:8000"),
        ({"port": 8443}, "https://server.test:8443"),
        ({"host": "127.0.0.1", "port": 28888}, "http://127.0.0.1:28888"),
        ({"host": "localhost"}, "http://localhost"),
        ({"host": "http://server.test/pipeline/"}, "http://server.test/pipeline"),
        ({"host": "server.test/pipeline", "schema": "https", "port": 443}, "https://server.test:443/pipeline"),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], expected: str) -> None:
    connection(monkeypatch, KFPHook, **fields)
    assert KFPHook().client().http.base_url == expected
    assert asyncio.run(KFPHook().aclient()).http.base_url == expected


def test_another_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, KFPHook, schema="ftp")
    with pytest.raises(ConfigError, match="'ftp'"):
        KFPHook().client()


@pytest.mark.parametrize(
    ("hook", "fields", "header", "value"),
    [
        (PolyaxonHook, {"password": "tok-12345"}, "authorization", "Token tok-12345"),
        (KFPHook, {"password": "tok-12345"}, "authorization", "Bearer tok-12345"),
        (SpinnakerHook, {"password": "spk_12345"}, "x-spinnaker-token", "spk_12345"),
        (SpinnakerHook, {"password": "abc12345", "extra": {"auth": "bearer"}}, "authorization", "Bearer abc12345"),
        (SpinnakerHook, {"login": "u", "password": "p"}, "authorization", "Basic dTpw"),
        (PolyaxonHook, {}, "authorization", None),
    ],
)
def test_credentials(
    monkeypatch: pytest.MonkeyPatch,
    hook: type[SystemHook[Any]],
    fields: dict[str, Any],
    header: str,
    value: str | None,
) -> None:
    connection(monkeypatch, hook, **fields)
    seen = Seen()
    hook(transport=httpx.MockTransport(seen)).test_connection()
    assert seen.requests[0].headers.get(header) == value


def test_gate_wants_a_known_kind_of_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, SpinnakerHook, extra={"auth": "kerberos"})
    with pytest.raises(ConfigError, match="kerberos"):
        SpinnakerHook().client()
    connection(monkeypatch, SpinnakerHook, extra={"auth": "basic"})
    with pytest.raises(ConfigError, match="needs a password"):
        SpinnakerHook().client()


@pytest.mark.parametrize(
    ("hook", "answers", "expected"),
    [
        (PolyaxonHook, [{"version": "2.18.0", "dist": "ce"}], "Polyaxon 2.18.0 (ce)"),
        (KFPHook, [{"tag_name": "2.16.1"}], "KFP 2.16.1"),
        (SpinnakerHook, [{"version": "2026.2.3"}, {"username": "alice"}], "Gate 2026.2.3"),
        (ContainerRegistryHook, [{}], "is a container registry"),
    ],
)
def test_the_test_button(
    monkeypatch: pytest.MonkeyPatch, hook: type[SystemHook[Any]], answers: list[Any], expected: str
) -> None:
    connection(monkeypatch, hook)
    transport = httpx.MockTransport(Seen(*(httpx.Response(200, json=answer) for answer in answers)))
    good, message = hook(transport=transport).test_connection()
    assert good
    assert expected in message


@pytest.mark.parametrize("hook", HOOKS)
def test_the_test_button_tells_what_is_wrong(monkeypatch: pytest.MonkeyPatch, hook: type[SystemHook[Any]]) -> None:
    connection(monkeypatch, hook, password="s3cr3t-1")
    transport = httpx.MockTransport(lambda request: httpx.Response(403, json={"message": "no access for s3cr3t-1"}))
    good, message = hook(transport=transport).test_connection()
    assert not good
    assert "403" in message
    assert "s3cr3t-1" not in message


def test_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"owner": "acme", "ui_url": "https://ui.test", "verify_ssl": "false"}
    connection(monkeypatch, PolyaxonHook, extra=extra)
    client = PolyaxonHook().client()
    assert client.owner == "acme"
    assert client.run_url("p", "u") == "https://ui.test/ui/acme/p/runs/u"
