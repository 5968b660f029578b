"""A registry with a built image and a Spinnaker that deploys its releases, for the tests of `release`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.delivery import APP, PIPELINE, REPO, TRIGGER, FakeGate, FakeRegistry, connections, network


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def gate() -> FakeGate:
    return FakeGate({(APP, PIPELINE): {"id": "c1", "name": PIPELINE, "triggers": [TRIGGER]}})


@pytest.fixture
def digest(registry: FakeRegistry, gate: FakeGate, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of the built image; both systems answer under their connections."""
    for name, value in connections().items():
        monkeypatch.setenv(name, value)
    with network(registry, gate):
        yield registry.add_image(REPO, "build-k", {"mlfleet.key": "k"})
