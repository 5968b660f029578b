"""A remote server that pretends to run thousands of jobs: KFP's runs and Gate's executions, on one port.

``python -m waits.remote PORT``. A job has no process and no row, only the moment at which it ends; its answer is a
text with its number in it. The benchmark steers and asks it below /control.
"""

from __future__ import annotations

import base64
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote

import uvicorn

from waits.answers import GROUPS, TAG, Row, built, execution, fill, job_of, kfp_run, listed

Query = dict[str, str]
NEVER = float("inf")
RUN = (Row(kfp_run("RUNNING")), Row(kfp_run("SUCCEEDED")))
WHOLE = (Row(execution("RUNNING", expand=True)), Row(execution("SUCCEEDED", expand=True)))
LIGHT = (Row(execution("RUNNING", expand=False)), Row(execution("SUCCEEDED", expand=False)))


class NoSuch(Exception):
    """Nothing is there."""


class Jobs:
    """When each job ends, whether executions have appeared, and what was asked."""

    def __init__(self, count: int = 0) -> None:
        self.ends = [NEVER] * count
        self.appeared = True
        self.requests: Counter[str] = Counter()
        self.looks = 0
        self.asked: set[int] = set()
        self.searched: set[int] = set()
        # Not in the order of the numbers: jobs that are polled together should not end together.
        self._order = random.Random(7).sample(range(count), count)

    def end(self, count: int, per_second: float) -> None:
        """``count`` more jobs end, one after the other; all at once without ``per_second``."""
        now = time.time()
        for place, job in enumerate(self._order[:count]):
            self.ends[job] = now + (place / per_second if per_second else 0.0)
        del self._order[:count]

    def row(self, kinds: tuple[Row, Row], job: int) -> bytes:
        if not 0 <= job < len(self.ends):
            raise NoSuch
        self.looks += 1
        self.asked.add(job)
        return kinds[time.time() >= self.ends[job]].of(job)

    def rows(self, kinds: tuple[Row, Row], jobs: Iterable[int]) -> list[bytes]:
        return [self.row(kinds, job) for job in jobs if 0 <= job < len(self.ends)]

    def told(self) -> dict[str, Any]:
        return {"requests": dict(self.requests), "looks": self.looks, "asked": len(self.asked),
                "searched": len(self.searched), "cpu_s": time.process_time(), "ends": {job: end for job, end in enumerate(self.ends) if end < NEVER},
                "bytes": {"kfp": len(RUN[0]), "spinnaker": len(WHOLE[0]), "spinnaker_light": len(LIGHT[0])}}  # fmt: skip


JOBS = Jobs()


def kfp_list(query: Query) -> bytes:
    """The filter of a list is escaped once more than other parameters (kfp.md 4)."""
    JOBS.requests["kfp_list"] += 1
    predicate = json.loads(unquote(query["filter"]))["predicates"][0]
    rows = JOBS.rows(RUN, (job_of(each) for each in predicate["string_values"]["values"]))
    return b'{"runs":' + listed(rows) + b',"total_size":%d}' % len(rows)


def kfp_get(run_id: str) -> bytes:
    JOBS.requests["kfp_get"] += 1
    return JOBS.row(RUN, job_of(run_id))


def executions(query: Query) -> bytes:
    JOBS.requests["executions"] += 1
    kinds = WHOLE if query.get("expand", "true") == "true" else LIGHT
    return listed(JOBS.rows(kinds, map(job_of, query["executionIds"].split(","))))


def execution_get(execution_id: str) -> bytes:
    JOBS.requests["execution_get"] += 1
    return JOBS.row(WHOLE, job_of(execution_id))


def search(application: str, query: Query) -> bytes:
    """Newest first, at most ``size``, between two build times, by a regular expression for the tag."""
    JOBS.requests["search"] += 1
    group = int(application.rsplit("-", 1)[1])
    wanted = json.loads(base64.b64decode(query["trigger"])).get("tag", "") if query.get("trigger") else ""
    pattern = re.compile(java_pattern(wanted))
    since, until = int(query.get("triggerTimeStartBoundary", 0)), int(query.get("triggerTimeEndBoundary", 2**62))
    numbers = [job for job in range(group, len(JOBS.ends), GROUPS) if pattern.fullmatch(fill(TAG, job))]
    JOBS.searched.update(numbers)
    if not JOBS.appeared:
        return b"[]"
    kinds = WHOLE if query.get("expand") == "true" else LIGHT
    found = [job for job in reversed(numbers) if since <= built(job) <= until]
    return listed(kinds[time.time() >= JOBS.ends[job]].of(job) for job in found[: int(query.get("size", 10))])


def java_pattern(text: str) -> str:
    r"""A Java regular expression with ``\Q...\E`` in it as one of Python."""
    return re.sub(r"\\Q(.*?)\\E", lambda quoted: re.escape(quoted[1]), text) or ".*"


def control(verb: str, query: Query) -> bytes:
    global JOBS
    if verb == "reset":
        JOBS = Jobs(int(query["jobs"]))
        JOBS.appeared = query.get("appeared", "true") == "true"
    elif verb == "end":
        JOBS.end(int(query["count"]), float(query.get("per_second", 0)))
    elif verb == "appear":
        JOBS.appeared = True
    return json.dumps(JOBS.told()).encode()


ROUTES: list[tuple[re.Pattern[str], Callable[..., bytes]]] = [
    (re.compile(r"/apis/v2beta1/runs"), lambda query: kfp_list(query)),
    (re.compile(r"/apis/v2beta1/runs/([^/]+)"), lambda query, run: kfp_get(run)),
    (re.compile(r"/executions"), lambda query: executions(query)),
    (re.compile(r"/pipelines/([^/]+)"), lambda query, each: execution_get(each)),
    (re.compile(r"/applications/([^/]+)/executions/search"), lambda query, name: search(name, query)),
    (re.compile(r"/control/(\w+)"), lambda query, verb: control(verb, query)),
]


def answer(path: str, query: Query) -> tuple[int, bytes]:
    for pattern, handler in ROUTES:
        found = pattern.fullmatch(path)
        if found:
            try:
                return 200, handler(query, *found.groups())
            except NoSuch:
                break
    JOBS.requests["not_found"] += 1
    return 404, b'{"code": 5, "message": "not found"}'


async def app(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    status, body = answer(unquote(scope["raw_path"].decode().partition("?")[0]), query)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False,
                timeout_keep_alive=120)  # fmt: skip
