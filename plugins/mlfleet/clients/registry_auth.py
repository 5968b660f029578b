"""How a container registry wants to be asked: its challenge, and tokens from its token service (spinnaker.md 7.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import httpx

from mlfleet.clients.answers import number, optional_text
from mlfleet.clients.auth import Credentials
from mlfleet.clients.http import HttpClient
from mlfleet.errors import AuthError

_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
# A token service that names no lifetime means 60 s (distribution spec, token authentication).
_DEFAULT_LIFETIME = 60
_MARGIN = 10.0


@dataclass(frozen=True)
class Challenge:
    """A ``WWW-Authenticate`` header: ``scheme`` in lower case and its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse_challenge(header: str) -> Challenge | None:
    """The first Bearer or Basic challenge in ``header``, Bearer preferred; None when there is neither."""
    for scheme in ("bearer", "basic"):
        found = re.search(rf"(?i)(?:^|,\s*){scheme}\b", header)
        if found:
            rest = header[found.end() :]
            parameters = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PARAMETER.finditer(rest)}
            return Challenge(scheme, parameters)
    return None


@dataclass
class RegistryAuth:
    """Finds out once how the registry wants to be asked, and keeps tokens by scope until shortly before they end.

    ``login`` and ``password`` are empty for anonymous access; ``bearer`` is a ready access token, as Artifact Registry
    takes one.
    """

    http: HttpClient
    login: str = ""
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    _basic: bool = field(default=False, init=False)
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict, init=False, repr=False)

    def headers(self, scope: str) -> dict[str, str]:
        """What to send now for ``scope``, {} while nothing is known."""
        if self.bearer:
            return Credentials.token(self.bearer).headers
        if self._basic:
            return Credentials.basic(self.login, self.password).headers
        token, until = self._tokens.get(scope, ("", 0.0))
        return Credentials.token(token).headers if token and self.http.clock() < until else {}

    async def answer(self, error: AuthError, header: str, scope: str) -> dict[str, str]:
        """Headers for a second try after a 401 with this ``WWW-Authenticate`` header.

        Raises ``error`` itself when there is nothing better to offer, AuthError when the token service refuses.
        """
        challenge = parse_challenge(header)
        if challenge is None or self.bearer:
            raise error
        if challenge.scheme == "basic":
            if not self.login or self._basic:
                raise error
            self._basic = True
            return self.headers(scope)
        self._tokens[scope] = await self._fetch(challenge, scope, error)
        return self.headers(scope)

    async def _fetch(self, challenge: Challenge, scope: str, error: AuthError) -> tuple[str, float]:
        realm = httpx.URL(challenge.parameters.get("realm", ""))
        if realm.scheme not in {"http", "https"}:
            raise error
        secure = httpx.URL(self.http.base_url).scheme == "https"
        if secure and realm.scheme == "http" and self.login:
            message = f"the registry wants its password sent unencrypted to {realm.host}, which is refused"
            raise AuthError(error.system, message, method=error.method, url=error.url, status=error.status)
        credentials = Credentials.basic(self.login, self.password).headers if self.login else {}
        # The registry knows best which scope the call needs; ours is only the key under which the token is kept.
        params = {"service": challenge.parameters.get("service"), "scope": challenge.parameters.get("scope") or scope}
        answer = await self.http.request("GET", str(realm), params=params, headers=credentials)
        data = answer.object()
        token = optional_text(data.get("token")) or optional_text(data.get("access_token"))
        if token is None:
            raise answer.wrong("the token service gave no token")
        lifetime = number(data.get("expires_in")) or _DEFAULT_LIFETIME
        self.http.redact.add(token)
        return token, self.http.clock() + max(0.0, lifetime - _MARGIN)
