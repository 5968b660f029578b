"""Rules over several fields of ``data``."""

from __future__ import annotations

from mlfleet.manifest.diagnostics import suggestion
from mlfleet.manifest.document import Document, Path, at
from mlfleet.manifest.naming import slug_of
from mlfleet.manifest.tasks import DATA

_KINDS = ("gcs", "bigquery", "asset")


def check_data(document: Document) -> None:
    """Adds what is wrong with what must be there before a training."""
    requirements = at(document.data, DATA)
    if not requirements or not isinstance(requirements, list):
        return
    if at(document.data, "training") is None:
        document.report("MF016", (DATA,), "`data` is waited for before a training: it needs `training`", key=True)
    names: set[str] = set()
    for index, requirement in enumerate(requirements):
        if not isinstance(requirement, dict):
            continue
        path: Path = (DATA, index)
        given = [kind for kind in _KINDS if requirement.get(kind) is not None]
        if len(given) != 1:
            # An unknown key is told with its suggestion; what was meant by it is not missing.
            unknown = [key for key in requirement if key not in (*_KINDS, "name", "timeout", "every")]
            if given or not any(suggestion(str(key), _KINDS).startswith("did") for key in unknown):
                document.report("MF012" if given else "MF011", (*path, given[1] if given else "gcs"),
                                f"one of {', '.join(_KINDS)} says what must be there",
                                "remove the others" if given else "write it like "
                                "`gcs: {bucket: acme-features, object: \"${data.end}/_SUCCESS\"}`",
                                key=True)  # fmt: skip
        name = requirement.get("name")
        if isinstance(name, str) and name in names:
            document.report("MF015", (*path, "name"), f"{name!r} is waited for already", "choose another name")
        names.add(str(name))
        _check_asset(document, (*path, "asset"))
    _check_taken(document)


def _check_asset(document: Document, path: Path) -> None:
    asset = at(document.data, *path)
    if isinstance(asset, dict) and (asset.get("name") is None) == (asset.get("uri") is None):
        both = asset.get("name") is not None
        document.report("MF012" if both else "MF011", (*path, "uri" if both else "name"),
                        "an asset is told by either `name` or `uri`",
                        "remove one of them" if both else "write it like `name: orders`", key=True)  # fmt: skip


def _check_taken(document: Document) -> None:
    """The group's name is taken only where there is such a group: manifests without one may use it."""
    for key, word in (("experiments", "the task group of an experiment"), ("steps", "a step")):
        found = at(document.data, key)
        lists = list(found.items()) if isinstance(found, dict) else [(None, found)]
        for place, items in lists:
            for index, item in enumerate(items if isinstance(items, list) else ()):
                name = at(item, "name")
                if isinstance(name, str) and (slug_of(name) if key == "experiments" else name) == DATA:
                    path = (key, index, "name") if place is None else (key, place, index, "name")
                    document.report("MF015", path, f"{DATA!r} is the task group of `data`: it can't be {word}",
                                    "choose another name")  # fmt: skip
