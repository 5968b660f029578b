"""The HTTP core that all clients stand on.

One place decides what every failed call means, so that no client can get it wrong on its own:

=============================================  =======================  ============================
what happened                                  call may be repeated     call must not be repeated
=============================================  =======================  ============================
connection refused, DNS, connect time-out      again, TransientError    again, TransientError
429                                            again, TransientError    again, TransientError
5xx, 408, what ``also_transient`` names        again, TransientError    OutcomeUnknown, never again
time-out or reset after sending                again, TransientError    OutcomeUnknown, never again
2xx that is not what was promised              again, UnexpectedAnswer  OutcomeUnknown, never again
404 that is not JSON (a proxy, not the API)    again, UnexpectedAnswer  UnexpectedAnswer
redirect                                       AuthError or RequestRefused: API calls follow none
401, 403 / 404 / 409 / other 4xx               AuthError / NotFound / Conflict / RequestRefused
=============================================  =======================  ============================
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import time
from collections.abc import Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx
import msgspec

from mlfleet.clients.answers import Answer, explain
from mlfleet.clients.auth import Credentials, Tls, ssl_context
from mlfleet.clients.calls import (
    MAX_BYTES,
    Call,
    Expect,
    Params,
    address,
    checked_base,
    is_json,
    origin,
    parse_json,
)
from mlfleet.clients.redaction import Redactor, guard_httpx_log
from mlfleet.clients.retry import RetryPolicy, Timeouts, TryAgain, retry_after_seconds, retrying
from mlfleet.errors import (
    AuthError,
    ConfigError,
    Conflict,
    MlfleetError,
    NotFound,
    OutcomeUnknown,
    RemoteError,
    RequestRefused,
    TransientError,
    UnexpectedAnswer,
)

_REPEATABLE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
# Raised before the request left this machine: nothing can have happened over there.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LOOK = "look whether it is up and whether host and port of its connection are right"
_MAX_REDIRECTS = 5
_LOGIN_WORDS = ("login", "signin", "sign_in", "oauth", "auth", "saml", "sso", "dex", "accounts.google")


class HttpClient:
    """Sends calls to one base address with credentials, time-outs and a retry budget.

    ``base_url``     root of the system, path prefix included ("https://host/pipeline")
    ``transport``    replaces the network (tests); ``sleep``, ``clock`` (monotonic seconds), ``now`` (epoch seconds) and
                     ``draw`` (jitter in [0, 1)) replace time and chance
    ``also_transient``   (status, body) -> True for answers of this system that mean "not now" besides the usual ones

    Use as ``async with`` or call :meth:`aclose`. Bound to the event loop of its first call.
    """

    def __init__(
        self,
        base_url: str,
        *,
        system: str,
        credentials: Credentials | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        tls: Tls | None = None,
        also_transient: Callable[[int, bytes], bool] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        draw: Callable[[], float] | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.system = system
        self.base_url = checked_base(base_url, system)
        self._origin = origin(httpx.URL(self.base_url))
        self.credentials = credentials or Credentials.none()
        self.timeouts = timeouts or Timeouts()
        self.retry = retry or RetryPolicy()
        self.redact = Redactor((*self.credentials.secrets, *secrets))
        self.clock, self.now, self._sleep, self._draw = clock, now, sleep, draw
        self._headers = {"Accept": "application/json", "User-Agent": "mlfleet", **(headers or {})}
        self._tls = tls or Tls()
        self._transport = transport
        self.also_transient = also_transient
        self._client: httpx.AsyncClient | None = None
        guard_httpx_log()

    def __repr__(self) -> str:
        return f"HttpClient({self.system} at {self.base_url})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; the client can be used again afterwards."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object = None,
        content: bytes | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        expect: Expect = Expect.JSON,
        repeatable: bool | None = None,
        max_bytes: int = MAX_BYTES,
        decode: Callable[[bytes], Any] = msgspec.json.decode,
    ) -> Answer:
        """Send one API call and return its successful answer.

        ``path`` is appended to the base address (segments already quoted) or is an absolute address, which gets the
        credentials only when it has the origin of the base address. ``params`` of value None are left out. ``files``
        maps a form field to (file name, bytes, content type). ``repeatable`` defaults to the method's own nature: POST
        and PATCH are not. ``decode``: see `Call`. Raises the errors of the table in this module's docstring.
        """
        url = self.resolve(path, params)
        sent = {**self._headers, **(self.credentials.headers if self._same_origin(url) else {}), **(headers or {})}
        if json is not None:
            content, sent["Content-Type"] = jsonlib.dumps(json).encode(), "application/json"
        may_repeat = method in _REPEATABLE_METHODS if repeatable is None else repeatable
        call = Call(method, url, may_repeat, expect, sent, content, files, max_bytes, decode)
        return await self._send_within_budget(call)

    async def download(self, path: str, *, headers: Mapping[str, str] | None = None, max_bytes: int) -> Answer:
        """GET a file as bytes, following at most five redirects.

        Only the first request, to the base address, carries ``headers`` and the credentials: blob stores are other
        houses, and a signed address refuses a second authorization. Raises UnexpectedAnswer above ``max_bytes``.
        """
        url = self.resolve(path)
        # Bytes are what the digest is about: nobody shall compress them on the way.
        plain = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": self._headers["User-Agent"]}
        sent = {**plain, **self.credentials.headers, **(headers or {})}
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._send_within_budget(
                Call("GET", url, True, Expect.BYTES, sent, max_bytes=max_bytes), allow_redirect=True
            )
            if not 300 <= answer.status < 400:
                return answer
            url, sent = self._next_stop(url, answer), plain
        raise UnexpectedAnswer(
            self.system, f"more than {_MAX_REDIRECTS} redirects", method="GET", url=self.redact(str(url))
        )

    def resolve(self, path: str, params: Params | None = None) -> httpx.URL:
        """The full address of ``path``, absolute or relative to the base address, with ``params`` added."""
        text = path if path.startswith(("http://", "https://")) else f"{self.base_url}/{path.lstrip('/')}"
        return address(text, params)

    def is_own(self, path: str) -> bool:
        """Whether ``path`` (relative or absolute) is at the origin of the base address, where credentials may go."""
        return self._same_origin(self.resolve(path))

    def _same_origin(self, url: httpx.URL) -> bool:
        return origin(url) == self._origin

    def _next_stop(self, url: httpx.URL, answer: Answer) -> httpx.URL:
        target = httpx.URL(urljoin(str(url), answer.headers.get("location", "")))
        downgrade = url.scheme == "https" and target.scheme != "https"
        if target.scheme not in {"http", "https"} or downgrade or not answer.headers.get("location"):
            raise UnexpectedAnswer(
                self.system,
                f"redirected to {self.redact(str(target))!r}, which is not followed",
                method="GET",
                url=answer.url,
                status=answer.status,
            )
        return target

    async def _send_within_budget(self, call: Call, *, allow_redirect: bool = False) -> Answer:
        attempts = 0
        options: dict[str, Any] = {} if self._draw is None else {"draw": self._draw}
        error: RemoteError
        try:
            async for attempt in retrying(self.retry, sleep=self._sleep, clock=self.clock, **options):
                with attempt:
                    attempts += 1
                    return await self._send_once(call, allow_redirect)
            raise AssertionError("tenacity ends with an answer or an error")
        except TryAgain as signal:
            error = signal.error
        error.attempts = attempts
        raise error

    async def _send_once(self, call: Call, allow_redirect: bool) -> Answer:
        failure: Exception
        try:
            async with asyncio.timeout(self.timeouts.total):
                return await self._exchange(call, allow_redirect)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError) as exc:
            failure = exc
        # Raised outside the except block: httpx's own error may quote a header, and must not hang on ours as context.
        raise self._failed(call, failure)

    async def _exchange(self, call: Call, allow_redirect: bool) -> Answer:
        client = self._open()
        request = client.build_request(
            call.method, call.url, headers=dict(call.headers), content=call.content, files=call.files
        )
        # httpx makes a copy, which would lose a `LongQuery`.
        request.url = call.url
        response = await client.send(request, stream=True)
        try:
            content = await self._read(call, response)
        finally:
            await response.aclose()
        return self._judge(call, response, content, allow_redirect)

    async def _read(self, call: Call, response: httpx.Response) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > call.max_bytes:
                # Never worth a second try: it would be as large again.
                kind = UnexpectedAnswer if call.repeatable else OutcomeUnknown
                raise self._error(kind, call, f"the answer is larger than {call.max_bytes} bytes", response)
            chunks.append(chunk)
        return b"".join(chunks)

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            base = httpx.URL(self.base_url)
            # A proxy from the environment can never be the way to this very machine.
            to_itself = base.scheme == "http" and base.host in {"localhost", "127.0.0.1", "::1"}
            # Calls stand alone: a session cookie that a server hands out must not outlive the token that earned it.
            no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
            self._client = httpx.AsyncClient(
                timeout=self.timeouts.as_httpx(),
                follow_redirects=False,
                verify=ssl_context(self._tls),
                transport=self._transport,
                trust_env=not to_itself,
                cookies=no_cookies,
            )
        return self._client

    def _judge(self, call: Call, response: httpx.Response, content: bytes, allow_redirect: bool) -> Answer:
        """The answer if it is a good one; raises what it means otherwise."""
        status = response.status_code
        if 200 <= status < 300 or (allow_redirect and 300 <= status < 400):
            return self._accept(call, response, content)
        if 300 <= status < 400:
            raise self._redirected(call, response)
        if status == 429:
            raise TryAgain(self._error(TransientError, call, "too many requests", response, content))
        special = self.also_transient is not None and self.also_transient(status, content)
        if status >= 500 or status == 408 or special:
            raise self._not_now(call, f"answered {status} {response.reason_phrase}", response, content)
        if status == 404 and call.expect is Expect.JSON and not is_json(response):
            message = "404 that does not come from the API; is the address right?"
            strange = self._error(UnexpectedAnswer, call, message, response, content)
            raise TryAgain(strange) if call.repeatable else strange
        kind = {401: AuthError, 403: AuthError, 404: NotFound, 409: Conflict}.get(status, RequestRefused)
        raise self._error(kind, call, f"refused with {status} {response.reason_phrase}", response, content)

    def _accept(self, call: Call, response: httpx.Response, content: bytes) -> Answer:
        data: Any = None
        fault = ""
        if call.expect in {Expect.JSON, Expect.JSON_OR_NOTHING} and call.method != "HEAD":
            data, fault = parse_json(call, response, content)
        elif call.expect is Expect.TEXT and "html" in response.headers.get("content-type", ""):
            fault = "an HTML page where text is expected; is there a login page in between?"
        if fault:
            raise self._not_now(call, fault, response, content, UnexpectedAnswer)
        return Answer(
            self.system, call.method, call.url, response.status_code, response.headers, content, self.redact, data,
            call.repeatable,
        )  # fmt: skip

    def _redirected(self, call: Call, response: httpx.Response) -> RemoteError:
        target = urljoin(str(call.url), response.headers.get("location", ""))
        shown = self.redact(target)
        login = any(word in target.lower() for word in _LOGIN_WORDS)
        if login or response.status_code in {302, 303, 307}:
            message = f"redirected to the login page {shown}: the credentials are missing, expired or not accepted"
            return self._error(AuthError, call, message, response)
        message = f"moved to {shown}; correct the address (host, port, schema) of the connection"
        return self._error(RequestRefused, call, message, response)

    def _failed(self, call: Call, failure: Exception) -> MlfleetError | TryAgain:
        """What a call without an answer means."""
        words = self.redact(str(failure) or type(failure).__name__)
        if isinstance(failure, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
            return ConfigError(f"{self.system}: the call cannot be sent: {words}", f"the connection to {self.base_url}")
        if "CERTIFICATE_VERIFY_FAILED" in words:
            return ConfigError(
                f"{self.system}: the certificate of {self.base_url} is not trusted: {words}",
                "the connection",
                "Give the certificate of its authority, or switch verify_ssl off if you accept the risk",
            )
        if isinstance(failure, _NOT_SENT):
            return TryAgain(self._error(TransientError, call, f"cannot be reached: {words}; {_LOOK}"))
        if isinstance(failure, httpx.DecodingError):
            return self._not_now(call, f"the answer cannot be decoded: {words}", kind=UnexpectedAnswer)
        if isinstance(failure, TimeoutError):
            return self._not_now(call, f"no complete answer within {self.timeouts.total:g} s")
        if isinstance(failure, httpx.TimeoutException):
            return self._not_now(call, f"no answer within {self.timeouts.read:g} s")
        return self._not_now(call, f"the connection broke: {words}")

    def _not_now(
        self,
        call: Call,
        message: str,
        response: httpx.Response | None = None,
        content: bytes = b"",
        kind: type[RemoteError] = TransientError,
    ) -> RemoteError | TryAgain:
        """After a failure that may have had its effect: again if the call allows it, OutcomeUnknown if not."""
        if call.repeatable:
            return TryAgain(self._error(kind, call, message, response, content))
        text = f"{message}; whether the call had its effect is not known"
        return self._error(OutcomeUnknown, call, text, response, content)

    def _error(
        self,
        kind: type[RemoteError],
        call: Call,
        message: str,
        response: httpx.Response | None = None,
        content: bytes = b"",
    ) -> RemoteError:
        headers = response.headers if response is not None else httpx.Headers()
        # Redacted before anything is cut off: half a secret would not be recognised any more.
        text = self.redact(content[:20_000].decode("utf-8", "replace"))
        status = response.status_code if response is not None else None
        error = kind(
            self.system,
            message,
            method=call.method,
            url=self.redact(str(call.url)),
            status=status,
            body=text[:2000],
            reason=explain(text, headers.get("content-type", "")),
            retry_after=retry_after_seconds(headers.get("retry-after"), self.now()) if status in {429, 503} else None,
        )
        if isinstance(error, AuthError):
            error.challenge = headers.get("www-authenticate", "")
        return error


class SystemClient:
    """What the clients of all systems share: they stand on an :class:`HttpClient` and close it."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.http.base_url})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.http.aclose()
