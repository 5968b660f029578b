"""Field types of the manifest that are names, paths and addresses. Each says in its error what it accepts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, cast

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag
from pydantic.fields import FieldInfo

from mlfleet.manifest.naming import is_project_name, slug_of
from mlfleet.manifest.values import wrong


def _check_project_name(name: str) -> str:
    if not is_project_name(name):
        raise wrong(f"{name!r} is not a project name", f"1 to 63 small letters, digits and inner hyphens, like "
                    f"{slug_of(name)[:63].strip('-') or 'price-suggestion'!r}")  # fmt: skip
    return name


def _check_github(name: str) -> str:
    if not re.fullmatch(r"@?[A-Za-z0-9][A-Za-z0-9-]*(/[A-Za-z0-9_.-]+)?", name):
        raise wrong(f"{name!r} is not a GitHub user or team", 'write it like "@user" or "@organisation/team"')
    return name


def _check_repository(name: str) -> str:
    part = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
    if not re.fullmatch(rf"{part}(/{part})*", name) or len(name) > 200:
        raise wrong(f"{name!r} is not an image repository",
                    "small letters, digits, `.`, `_`, `-` and `/`; no registry host and no tag")  # fmt: skip
    return name


def _check_pipeline(reference: str) -> str:
    if not re.fullmatch(r"[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*", reference):
        raise wrong(f"{reference!r} does not name a pipeline", "write it like pipeline.py:train, file and function")
    return reference


def _check_link(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s<>\"]+", url):
        raise wrong(f"{url!r} is not a web address", "it starts with https://")
    return url


def _check_label_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", name):
        raise wrong(f"{name!r} is not the name of a label", "1 to 32 small letters, digits, `.`, `_` and `-`")
    return name


def _check_label_value(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value):
        raise wrong(f"{value!r} is not the value of a label", "1 to 63 letters, digits, `.`, `_` and `-`")
    return value


def _check_step_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise wrong(f"{name!r} is not the name of a step", "1 to 63 small letters, digits, `-` and `_`")
    return name


def _check_import_path(path: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", path):
        raise wrong(f"{path!r} is not the import path of a class", "write it like package.module.Class")
    return path


def _check_image(reference: str) -> str:
    # What a reference stands for is known when the task runs; around it the rules hold.
    text = re.sub(r"\$\{[^{}]*\}", "x", reference)
    if not re.fullmatch(r"[\w.-]+(:\d+)?(/[\w.-]+)*(:[\w.-]{1,128})?(@sha256:[0-9a-f]{64})?", text):
        raise wrong(f"{reference!r} is not a container image", "write it like registry.example.com/ml/train:1.4")
    return reference


def _check_connection(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", name):
        raise wrong(f"{name!r} is not the name of a Polyaxon connection", "1 to 63 letters, digits, `-` and `_`")
    return name


def _check_component(reference: str) -> str:
    if not re.fullmatch(r"([\w-]+/)?[\w-]+(:[\w.-]+)?", reference):
        raise wrong(f"{reference!r} is not a component of the hub", "write it like acme/train:1.2")
    return reference


def _check_git_address(address: str) -> str:
    if not re.fullmatch(r"(https?://|ssh://)[^\s<>\"]+|[\w.-]+@[\w.-]+:[\w./~-]+", address):
        raise wrong(f"{address!r} is not the address of a git repository",
                    "write it like https://github.com/acme/fleet or git@github.com:acme/fleet.git")  # fmt: skip
    if re.match(r"https?://[^/]*@", address):
        raise wrong("the address of a git repository has a user or password in it",
                    "credentials belong into a Polyaxon connection: name it with `connection`")  # fmt: skip
    return address


def _check_queue(name: str) -> str:
    if not re.fullmatch(r"([\w-]+/)?[\w-]+", name):
        raise wrong(f"{name!r} is not a Polyaxon queue", "write it like gpu, or agent/gpu")
    return name


def _label(what: str) -> Callable[[str], str]:
    """A check of names that Kubernetes keeps: ``what`` is such a name of (RFC 1123)."""

    def check(name: str) -> str:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
            raise wrong(f"{name!r} is not the name of a {what}", "1 to 63 small letters, digits and inner hyphens")
        return name

    return check


def _check_absolute(path: str) -> str:
    if not re.fullmatch(r"/[^\s:]+", path) or ".." in path.split("/"):
        raise wrong(f"{path!r} is not a folder of the container", "it starts with /, like /data")
    return path


def _check_platform(name: str) -> str:
    if not re.fullmatch(r"linux/[a-z0-9]+(/v[0-9]+)?", name):
        raise wrong(f"{name!r} is not a platform of images", "write it like linux/amd64 or linux/arm64")
    return name


def _check_commit(commit: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{7,40}|\$\{git\.commit\}", commit):
        raise wrong(f"{commit!r} is not a commit", "7 to 40 hexadecimal digits, or ${git.commit} for that of the DAG")
    return commit


def _shape(pattern: str) -> FieldInfo:
    """What the JSON Schema says of a text that a validator checks with better words."""
    return cast(FieldInfo, Field(json_schema_extra={"pattern": pattern}))


ProjectName = Annotated[str, AfterValidator(_check_project_name), _shape("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
GitHubName = Annotated[str, AfterValidator(_check_github), _shape("^@?[A-Za-z0-9][A-Za-z0-9-]*(/[A-Za-z0-9_.-]+)?$")]
Repository = Annotated[str, AfterValidator(_check_repository)]
PipelineFunction = Annotated[str, AfterValidator(_check_pipeline), _shape(r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$")]
Url = Annotated[str, AfterValidator(_check_link)]
# A tag, an image label and what other tools make of it: the common part of what they take.
LabelName = Annotated[str, AfterValidator(_check_label_name)]
LabelValue = Annotated[
    str, AfterValidator(_check_label_value), _shape("^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
Assets = Annotated[
    Annotated[ProjectName, Tag("one")]
    | Annotated[list[ProjectName], Field(min_length=1, max_length=50), Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
]
# A path below include/pipelines/<project>/; `checks` looks whether it is there and stays inside.
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=300)]
StepName = Annotated[str, AfterValidator(_check_step_name), _shape("^[a-z0-9][a-z0-9_-]{0,62}$")]
ImportPath = Annotated[str, AfterValidator(_check_import_path)]
ImageReference = Annotated[str, StringConstraints(max_length=400), AfterValidator(_check_image)]
ConnectionName = Annotated[str, AfterValidator(_check_connection)]
ComponentReference = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_component)]
GitAddress = Annotated[str, StringConstraints(max_length=400), AfterValidator(_check_git_address)]
QueueName = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_queue)]
NodePoolName = Annotated[str, AfterValidator(_label("node pool"))]
VolumeName = Annotated[str, AfterValidator(_label("volume"))]
AbsolutePath = Annotated[str, StringConstraints(max_length=300), AfterValidator(_check_absolute)]
Platform = Annotated[str, AfterValidator(_check_platform), _shape("^linux/[a-z0-9]+(/v[0-9]+)?$")]
Commit = Annotated[str, AfterValidator(_check_commit)]
