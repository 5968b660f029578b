"""Services shared by the contract tests: started once per session, on free ports, with state in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.polyaxon import PolyaxonSandbox
from tests.support.processes import SERVICES_PYTHON, free_port, start_service


@pytest.fixture(scope="session")
def polyaxon_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolyaxonSandbox]:
    """The real Polyaxon CE server with an agent; `.url` is its base URL, `.project` a project that exists."""
    root = tmp_path_factory.mktemp("polyaxon")
    port = free_port()
    command = [SERVICES_PYTHON, "-m", "sandbox.polyaxon.server", "--port", str(port), "--state", root / "state"]
    with start_service(command, port, "/healthz", root / "polyaxon.log") as server:
        sandbox = PolyaxonSandbox(server.url, root / "state", root)
        try:
            sandbox.start_agent()
            yield sandbox
        finally:
            sandbox.close()
