"""The sandbox's stand-in for Kubernetes secrets: a folder each, a file per key, given to a component's environment.

``<state>/secrets/<secret>/<key>``. Only what ``kfp.kubernetes.use_secret_as_env`` compiles to is understood. The values
are in no document of the store: they are read when the component starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.kfp.component import UnsupportedError

SECRETS = "secrets"


def with_secrets(executor: Mapping[str, Any], platform: Mapping[str, Any], label: str, folder: Path) -> dict[str, Any]:
    """The executor with the secrets of its platform settings among its variables.

    Raises UnsupportedError for one that is not there: a pod would wait for it for ever.
    """
    wanted = platform.get("executors", {}).get(label, {}).get("secretAsEnv", [])
    if not wanted or "container" not in executor:
        return dict(executor)
    container = executor["container"]
    env = [*container.get("env", [])]
    for secret in wanted:
        name = secret.get("secretName") or _constant(secret.get("secretNameParameter", {}))
        for pair in secret["keyToEnv"]:
            value = _value(folder / name / pair["secretKey"])
            if value is not None:
                env.append({"name": pair["envVar"], "value": value})
            elif not secret.get("optional"):
                where = f"{folder.name}/{name}/{pair['secretKey']}"
                raise UnsupportedError(
                    f"there is no secret {name} with a key {pair['secretKey']}; it would be in {where}"
                )
    return {**executor, "container": {**container, "env": env}}


def _constant(parameter: Mapping[str, Any]) -> str:
    try:
        return str(parameter["runtimeValue"]["constant"])
    except (KeyError, TypeError):
        raise UnsupportedError("the sandbox knows secrets by a fixed name only, not by a parameter") from None


def _value(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None
