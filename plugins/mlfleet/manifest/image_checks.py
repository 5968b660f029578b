"""Rules over several fields of ``image``, and over its Dockerfile."""

from __future__ import annotations

import re
from pathlib import Path as FilePath

from mlfleet.manifest.diagnostics import Severity
from mlfleet.manifest.document import Document, at
from mlfleet.manifest.naming import BASE

_USES_BASE = re.compile(rb"^[ \t]*FROM[ \t].*\$(BASE\b|\{BASE[:}])", re.IGNORECASE | re.MULTILINE)
_MAX_BYTES = 256 * 1024


def check_image(document: Document) -> None:
    """Adds what is wrong with the image beyond single fields, and what nothing here can build."""
    image = at(document.data, "image")
    if not isinstance(image, dict):
        return
    if image.get("base") is not None and at(image, "args", BASE) is not None:
        document.report("MF012", ("image", "args", BASE), f"`base` gives the build argument {BASE} already",
                        "remove one of them", key=True)  # fmt: skip
    if image.get("backend") == "cloud_build":
        document.report("MF027", ("image", "backend"), "images of manifests are not built with Cloud Build yet",
                        "leave `backend` out, for buildah")  # fmt: skip
    platforms = image.get("platforms")
    if isinstance(platforms, list) and len(platforms) > 1:
        document.report("MF027", ("image", "platforms", 1), "buildah builds for one platform here",
                        "name the one that production has")  # fmt: skip
    if image.get("per") == "experiment":
        _check_pipelines(document)


def _check_pipelines(document: Document) -> None:
    """One docker trigger looks at one repository, so each image needs a pipeline of its own."""
    pipeline, experiments = at(document.data, "deploy", "spinnaker", "pipeline"), at(document.data, "experiments")
    enabled = (
        [item for item in experiments if at(item, "enabled") is not False] if isinstance(experiments, list) else []
    )
    if isinstance(pipeline, str) and len(enabled) > 1 and "${experiment." not in pipeline:
        document.report("MF012", ("deploy", "spinnaker", "pipeline"),
                        "each experiment has an image of its own, and all would have this one pipeline",
                        "name one for each, like `deploy-${experiment.slug}`")  # fmt: skip


def check_base(document: Document, folder: FilePath) -> None:
    """Adds that the Dockerfile would not see the base image; `checks` has seen to it that the file is there."""
    if at(document.data, "image", "base") is None:
        return
    name = at(document.data, "image", "dockerfile")
    name = "Dockerfile" if name is None else name
    where = document.written(("image", "dockerfile"))
    if not isinstance(name, str) or any(
        found.path == where and found.severity is Severity.ERROR for found in document.diagnostics
    ):
        return
    try:
        with (folder / name).open("rb") as file:
            text = file.read(_MAX_BYTES)
    except (OSError, ValueError):
        return
    if not _USES_BASE.search(text):
        document.report("MF022", ("image", "base"), f"{name} has no `FROM ${{{BASE}}}`: `base` would be ignored",
                        f"begin it with `ARG {BASE}` and `FROM ${{{BASE}}}`", key=True)  # fmt: skip
