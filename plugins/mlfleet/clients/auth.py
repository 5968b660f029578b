"""What a client shows to prove who it is, and which certificates it trusts."""

from __future__ import annotations

import base64
import functools
import ssl
from dataclasses import dataclass, field

import httpx

from mlfleet.errors import ConfigError


@dataclass(frozen=True)
class Credentials:
    """Headers sent with every call to the base address, and to nowhere else; ``repr`` shows no value.

    ``secrets`` are the texts to keep out of every message.
    """

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def none(cls) -> Credentials:
        """No credentials at all."""
        return cls()

    @classmethod
    def token(cls, value: str, scheme: str = "Bearer") -> Credentials:
        """``Authorization: <scheme> <value>``; Polyaxon's scheme is ``Token`` (polyaxon.md 1)."""
        return cls.header("Authorization", f"{scheme} {value}", value)

    @classmethod
    def basic(cls, login: str, password: str) -> Credentials:
        """HTTP Basic, as Gate and registries accept it per request."""
        encoded = base64.b64encode(f"{login}:{password}".encode()).decode()
        return cls.header("Authorization", f"Basic {encoded}", password, encoded)

    @classmethod
    def header(cls, name: str, value: str, *secrets: str) -> Credentials:
        """Any header: ``X-Spinnaker-Token``, ``kubeflow-userid``, ``Cookie`` ...

        Raises ConfigError for a value that cannot be sent; the message does not repeat it.
        """
        if value != value.strip() or not value.isascii() or not value.isprintable():
            raise ConfigError(
                f"the value for the header {name} has a line break, a blank at its end or a character outside ASCII",
                "the connection's password or token",
                "Copy the token again, without a line break",
            )
        return cls({name: value}, (value, *secrets))


@dataclass(frozen=True)
class Tls:
    """Which server certificates are trusted, and the client's own one (Gate with x509, spinnaker.md 4)."""

    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@functools.cache
def ssl_context(tls: Tls) -> ssl.SSLContext:
    """The context for ``tls``; cached, because loading the bundle of authorities takes tens of milliseconds.

    Raises ConfigError when a file cannot be read.
    """
    try:
        context = httpx.create_ssl_context(verify=tls.verify)
        if tls.ca_file:
            context.load_verify_locations(cafile=tls.ca_file)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as exc:
        files = ", ".join(f for f in (tls.ca_file, tls.cert_file, tls.key_file) if f)
        raise ConfigError(
            f"a TLS file cannot be used: {exc}", files, "Give PEM files that this process can read"
        ) from exc
    return context
