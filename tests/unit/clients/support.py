"""A scripted server behind httpx.MockTransport, and a clock that only moves when somebody sleeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

import httpx

from mlfleet.clients.http import HttpClient

T = TypeVar("T")
Step = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def answer(data: object, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=data, headers={k.replace("_", "-"): v for k, v in headers.items()})


def page(html: str = "<html><body>Sign in</body></html>", status: int = 200) -> httpx.Response:
    return httpx.Response(status, html=html)


class Time:
    """Seconds; ``sleeps`` are the waits that were asked for."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.at += seconds


class Server:
    """Answers with one step after the other, the last one for ever; ``requests`` are what came."""

    def __init__(self, *steps: Step) -> None:
        self.steps: Sequence[Step] = steps
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        step = self.steps[min(len(self.requests), len(self.steps) - 1)]
        self.requests.append(request)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            # Fresh each time: a response can be read once.
            kept = [(k, v) for k, v in step.headers.raw if k.lower() not in {b"content-length", b"content-encoding"}]
            return httpx.Response(step.status_code, content=step.content, headers=kept)
        return step(request)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]

    def query(self, index: int = -1) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(self.requests[index].url.query.decode()).items()}

    def body(self, index: int = -1) -> Any:
        return json.loads(self.requests[index].content)


def client(
    server: Callable[[httpx.Request], httpx.Response],
    time: Time | None = None,
    url: str = "http://remote:8000",
    **options: Any,
) -> HttpClient:
    time = time or Time()
    defaults: dict[str, Any] = {"system": "test", "draw": lambda: 1.0, "now": time}
    return HttpClient(
        url, transport=httpx.MockTransport(server), sleep=time.sleep, clock=time, **{**defaults, **options}
    )


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)
