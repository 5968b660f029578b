"""Looking for an uploaded version on a server in trouble."""

from __future__ import annotations

import httpx
import pytest

from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.kfp_models import PipelineVersion
from mlfleet.errors import MlfleetError, SpecError
from mlfleet.systems.kfp_versions import find_version, package_of
from tests.unit.clients.support import Server, client, run


def test_a_server_that_is_away_is_worth_another_try() -> None:
    async def ask(server: Server) -> None:
        async with KFPClient(client(server)) as asked:
            await find_version(asked, "churn", {"branch": "main"})

    with pytest.raises(MlfleetError) as caught:
        run(ask(Server(lambda request: httpx.Response(503))))
    assert caught.value.retryable


@pytest.mark.parametrize("spec", [{}, {"pipeline_spec": 5}, {"pipelineInfo": {}}])
def test_a_version_without_a_pipeline_is_an_error(spec: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="no compiled pipeline"):
        package_of(PipelineVersion("p1", "v1", "main_0123abc", spec=spec), enable_caching=True)
