"""Routes of recurring runs, below ``/apis/v2beta1``; the key of their list is in camel case (reference kfp.md, 4)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from sandbox.kfp.errors import APIError
from sandbox.kfp.listing import Query, paged
from sandbox.kfp.messages import Message, shown
from sandbox.kfp.recurring import RecurringRuns


class RecurringRoutes:
    """The recurring-run service over HTTP."""

    def __init__(self, recurring: RecurringRuns) -> None:
        self._recurring = recurring
        self.router = api = APIRouter(prefix="/apis/v2beta1/recurringruns")
        api.add_api_route("", self.create, methods=["POST"])
        api.add_api_route("", self.listed, methods=["GET"])
        api.add_api_route("/{key}", self.one, methods=["GET"])
        api.add_api_route("/{key}", self.delete, methods=["DELETE"])
        api.add_api_route("/{key}:{verb}", self.act, methods=["POST"])

    def create(self, body: Annotated[dict[str, Any], Body()]) -> Message:
        """The new recurring run."""
        return shown(self._recurring.create(body))

    def listed(self, query: Annotated[Query, Depends()], experiment_id: str = "") -> Message:
        """A page of recurring runs; the experiment's alone when there is one."""
        known = self._recurring.store.all("recurring")
        mine = [each for each in known if experiment_id in ("", each["experiment_id"])]
        page = paged("recurring", mine, query, "Failed to create list options")
        return shown({**vars(page), "recurringRuns": [shown(row) for row in page.rows], "rows": None})

    def one(self, key: str) -> Message:
        """A recurring run."""
        return shown(self._recurring.get(key))

    def delete(self, key: str) -> Message:
        """Nothing."""
        self._recurring.delete(key)
        return {}

    def act(self, key: str, verb: str) -> Message:
        """:enable and :disable."""
        if verb not in ("enable", "disable"):
            raise APIError(404, "Not Found")
        self._recurring.switch(key, verb.upper())
        return {}
