"""``python -m sandbox.kfp --port P --state DIR``: the KFP API server of the sandbox."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from sandbox.kfp import catalog_routes, errors, page
from sandbox.kfp.catalog import Catalog
from sandbox.kfp.engine import PARALLEL_COMPONENTS, Engine
from sandbox.kfp.faults import Connection, Faults
from sandbox.kfp.recurring import RecurringRuns
from sandbox.kfp.recurring_routes import RecurringRoutes
from sandbox.kfp.run_routes import RunRoutes
from sandbox.kfp.runs import Runs
from sandbox.kfp.store import Store
from sandbox.processes import port_is_free


def application(state: Path, parallel: int = PARALLEL_COMPONENTS) -> FastAPI:
    """The whole server over one state folder; at most ``parallel`` components run at a time."""
    store, faults = Store(state / "kfp.db"), Faults()
    engine, catalog = Engine(store, state, parallel), Catalog(store)
    service = Runs(store, catalog, engine, state)

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        engine.fail_interrupted()
        yield
        engine.close()
        store.close()

    app = FastAPI(title="KFP (sandbox)", docs_url=None, redoc_url=None, openapi_url=None, lifespan=running)
    for kind in (errors.APIError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, errors.answer)

    app.middleware("http")(faults.middleware)

    @app.get("/apis/v2beta1/healthz")
    def healthz() -> dict[str, Any]:
        return {"commit_sha": "sandbox", "tag_name": "2.16.1", "multi_user": False, "pipeline_store": "database"}

    app.include_router(catalog_routes.router(catalog))
    app.include_router(RunRoutes(service).router)
    app.include_router(RecurringRoutes(RecurringRuns(store, catalog, service)).router)
    app.include_router(_own_pages(service, faults))
    return app


def _own_pages(service: Runs, faults: Faults) -> APIRouter:
    """What is the sandbox's own, outside ``/apis``: a web page, counts for tests, faults."""
    pages = APIRouter()

    @pages.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page.runs(service.store.all("runs"))

    @pages.get("/runs/{run_id}", response_class=HTMLResponse)
    def details(run_id: str) -> str:
        return page.run(service.get(run_id))

    @pages.get("/sandbox/runs/{run_id}")
    def inside(run_id: str) -> dict[str, Any]:
        return {name: service.get(run_id)["sandbox"][name] for name in ("executions", "tasks")}

    @pages.post("/sandbox/faults", response_model=None)
    def fault(values: dict[str, Any]) -> dict[str, int] | JSONResponse:
        try:
            return faults.set(values)
        except KeyError as error:
            return JSONResponse({"error": f"no fault {error}"}, 400)

    return pages


def main() -> int:
    """0 after an orderly end, 1 with one sentence when the port or the folder is taken."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.kfp", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=PARALLEL_COMPONENTS, help="components that run at a time")
    options = parser.parse_args()
    if not port_is_free(options.port):
        print(f"kfp: port {options.port} is in use; set MLFLEET_KFP_PORT to another one", file=sys.stderr)
        return 1
    state = options.state.absolute()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"kfp: another server uses the folder {state}; stop it or take another one", file=sys.stderr)
            return 1
        uvicorn.run(
            application(state, options.parallel), host="127.0.0.1", port=options.port, log_level="warning",
            access_log=False, http=Connection, timeout_graceful_shutdown=5,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
