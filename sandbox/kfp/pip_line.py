"""The pip line that the SDK compiles in front of a component: judged here and never run.

In a pod it installs into a container that nobody else uses. Here it would change the environment that all components
share, over the network, so what it asks for is either there or the task fails.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

_INSTALL = re.compile(r"-m pip install (.*?) *&&", re.DOTALL)
_WITH_VALUE = {"--index-url", "--extra-index-url", "--trusted-host"}


def split(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command without its pip line, and the requirements that stood there."""
    if list(command[:2]) != ["sh", "-c"] or "-m pip install" not in command[2]:
        return list(command), []
    found: list[str] = []
    for line in _INSTALL.findall(command[2]):
        words = iter(shlex.split(line))
        for word in words:
            if word in _WITH_VALUE:
                next(words, None)
            elif not word.startswith("--"):
                found.append(word)
    return list(command[3:]), found


def unmet(requirements: Iterable[str]) -> str:
    """The first requirement that this interpreter's environment does not satisfy, and what it has; "" when all are."""
    for text in requirements:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            return f"{text}, which is no name of a package"
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            return f"{text}, which it does not have"
        if wanted.url or not wanted.specifier.contains(version, prereleases=True):
            return f"{text}, and it has {wanted.name} {version}"
    return ""
