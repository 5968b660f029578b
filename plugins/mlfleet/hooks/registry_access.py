"""From a registry connection to what tasks about images need: an address for buildah, clients, a page."""

from __future__ import annotations

from collections.abc import Callable

from mlfleet.clients.connections import flag
from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.systems.buildah import Registry


def registry_of(hook: ContainerRegistryHook) -> tuple[Registry, Callable[[], ContainerRegistryClient]]:
    """Where buildah pushes to, and a way to ask the same registry. Raises ConfigError without such a connection."""
    connect = hook.client_factory()
    connection = hook.get_connection(hook.conn_id)
    verify = flag(connection.extra_dejson.get("verify_ssl"), default=True)
    login, password = connection.login or "", connection.password or ""
    return Registry(hook.base_url(connection), login, password, verify), connect


def page_of(registry: Registry, repository: str, reference: str) -> str:
    """The address of an image's manifest: registries have no pages of their own in common."""
    return f"{registry.base_url}/v2/{repository}/manifests/{reference}"
