"""No call of any client goes without a time-out, a retry budget and a test in which it fails."""

from __future__ import annotations

import inspect

import httpx
import pytest

from mlfleet.clients.cloud_build import CloudBuildClient
from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.errors import TransientError

from . import test_cloud_build, test_container_registry, test_fleet_clients, test_kfp, test_polyaxon, test_spinnaker
from .support import Server, answer, client, run

CLIENTS = {
    CloudBuildClient: {name: call for name, (_, call) in test_cloud_build.CALLS.items()},
    ContainerRegistryClient: dict(test_container_registry.CALLS),
    KFPClient: {name: call for name, (_, call) in test_kfp.CALLS.items()},
    PolyaxonClient: {name: call for name, (_, call) in test_polyaxon.CALLS.items()},
    SpinnakerClient: {name: call for name, (_, call) in test_spinnaker.CALLS.items()},
    **test_fleet_clients.CALLS,
}
EVERY = [(kind, name) for kind, calls in CLIENTS.items() for name in calls]
FAILURES = {
    "refused": httpx.ConnectError("refused"),
    "no connection in time": httpx.ConnectTimeout(""),
    "429": answer({"message": "slowly"}, 429),
}


@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
def test_no_public_call_is_forgotten(kind):
    public = {
        name
        for name, function in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "aclose"
    }
    assert public == set(CLIENTS[kind])


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_what_did_not_reach_the_system_is_tried_within_the_budget(kind, name, failure):
    server = Server(failure)
    with pytest.raises(TransientError) as caught:
        run(CLIENTS[kind][name](kind(client(server))))
    assert len(server.requests) == caught.value.attempts == 5
    for request in server.requests:
        assert all((request.extensions["timeout"].get(part) or 0) > 0 for part in ("connect", "read", "write", "pool"))


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda value: getattr(value, "__name__", value))
def test_a_call_without_the_right_is_not_repeated(kind, name):
    server = Server(answer({"message": "not yours"}, 403))
    with pytest.raises(Exception, match="403"):
        run(CLIENTS[kind][name](kind(client(server))))
    assert len(server.requests) == 1
