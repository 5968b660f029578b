from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection as AirflowConnection

from mlfleet.clients.connections import Connection, base_url, read_connection
from mlfleet.errors import ConfigError

SECRET = "pa55-w0rd"
URIS = [
    "kfp://kfp.example.com",
    "kfp://kfp.example.com:8080/https",
    f"kfp://alice:{SECRET}@kfp.example.com:443/https?namespace=team-a&verify_ssl=false",
    f"kfp://:{SECRET}@kfp.example.com",
    "kfp://https://kfp.example.com:8443/?namespace=a%20b",
    "kfp://kfp.example.com%2Fpipeline/https",
    "kfp://Kfp.Example.com",
    "kfp://al%40ice:p%3Aw%2F@kfp.example.com/",
    "kfp://@:8080",
    "kfp://kfp.example.com?__extra__=%7B%22namespace%22%3A+%22a%22%2C+%22deep%22%3A+%7B%22x%22%3A+1%7D%7D",
    "container-registry://registry.example.com",
]
JSONS = [
    {"conn_type": "kfp", "host": "kfp.example.com"},
    {"conn_type": "kfp", "host": "h", "port": "8080", "schema": "http", "login": "a", "password": SECRET},
    {"conn_type": "container-registry", "host": "h", "port": 1, "extra": {"namespace": "a"}},
    {"conn_type": "kfp", "host": "h", "extra": '{"namespace": "a", "n": 1}', "description": "of it"},
    {},
]


def same(text: str, theirs: AirflowConnection) -> None:
    ours = read_connection("my_conn", "", {"AIRFLOW_CONN_MY_CONN": text})
    for name in ("conn_type", "host", "schema", "port", "login", "password"):
        assert (getattr(ours, name) or None) == (getattr(theirs, name) or None), name
    assert dict(ours.extra) == (json.loads(theirs.extra) if theirs.extra else {})


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_read_as_airflow_reads_it(uri: str) -> None:
    same(uri, AirflowConnection(conn_id="my_conn", uri=uri))


@pytest.mark.parametrize("value", JSONS, ids=str)
def test_json_is_read_as_airflow_reads_it(value: dict[str, object]) -> None:
    text = json.dumps(value)
    same(f"  {text}\n", AirflowConnection.from_json(text, conn_id="my_conn"))


@pytest.mark.parametrize("environ", [{}, {"AIRFLOW_CONN_KFP_PROD": "  "}])
def test_a_missing_variable_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_connection("kfp_prod", "kfp", environ)
    assert str(caught.value) == (
        "the connection 'kfp_prod' is not set (looked in the environment variable AIRFLOW_CONN_KFP_PROD). "
        'Set AIRFLOW_CONN_KFP_PROD=\'{"conn_type": "kfp", "schema": "https", "host": "…"}\''
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'{{"host": "h", "password": "{SECRET}"', "no JSON"),
        (f'{{"hots": "h", "password": "{SECRET}"}}', "no field 'hots'"),
        (f'{{"port": "{SECRET}"}}', "port is no number"),
        (f'{{"host": 1, "password": "{SECRET}"}}', "host is no text"),
        (f'{{"extra": "{SECRET}"}}', "extra is no JSON"),
        (f'{{"extra": ["{SECRET}"]}}', "extra is no JSON object"),
        (f"kfp.example.com {SECRET}", "neither JSON nor a URI"),
        (f"kfp://a://b://{SECRET}", "neither JSON nor a URI"),
        (f"kfp://u:{SECRET}@https://h", "protocol"),
        ("polyaxon://h", "of the type 'polyaxon', not 'kfp'"),
    ],
)
def test_what_cannot_be_read_is_told_without_its_value(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read_connection("kfp_prod", "kfp", {"AIRFLOW_CONN_KFP_PROD": text})
    assert "AIRFLOW_CONN_KFP_PROD" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_port_out_of_range_is_told() -> None:
    with pytest.raises(ConfigError, match="AIRFLOW_CONN_C"):
        read_connection("c", "kfp", {"AIRFLOW_CONN_C": "kfp://h:99999"})


def test_repr_shows_no_secret() -> None:
    connection = Connection("c", "kfp", host="h", password=SECRET, extra={"token": SECRET})
    assert SECRET not in repr(connection)
    assert base_url(connection, "c") == "https://h"
