"""The files of a new project: templates filled in, laid out whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import string
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mlfleet.cli.columns import Columns
from mlfleet.manifest.code import Unreadable, function_signature
from mlfleet.manifest.loading import Repository
from mlfleet.manifest.schema import schema_text

TEMPLATES = Path(__file__).parent / "templates"
# By their paths below ``include``.
SHARED = TEMPLATES / "shared"
_NOT_TEXT = frozenset({"yes", "no", "on", "off", "true", "false", "null"})  # of YAML 1.1
# What each project links to, so that a fix reaches all of them; by their names in include/components.
LINKS = {"serve.py": "model_server.py", "tracking.py": "polyaxon_tracking.py"}


class _Template(string.Template):
    """``%%name``: dollars and braces belong to manifests, polyaxonfiles and Python."""

    delimiter = "%%"


@dataclass(frozen=True)
class Wishes:
    """What a new project shall be like; ``deploy`` is the Spinnaker pipeline that brings it into production."""

    name: str
    title: str
    owners: tuple[str, ...]
    experiments: tuple[str, ...]
    cron: str
    deploy: str
    columns: Columns


def lay_out(repository: Repository, wishes: Wishes) -> list[Path]:
    """Writes the project's code folder, then its manifest, and returns both and what else it wrote.

    The folder appears at once and the manifest last: Airflow never sees a project without code. Raises
    click.UsageError when one of them is there already, or cannot be written; nothing is left then.
    """
    folder, manifest = repository.folder_of(wishes.name), repository.projects / f"{wishes.name}.yaml"
    for path in (folder, manifest, manifest.with_suffix(".yml")):
        if path.exists() or path.is_symlink():
            raise click.UsageError(f"{repository.shown(path)} is there already; choose another name")
    _check_library(repository)
    written: list[Path] = []
    try:
        for shared, text in _shared(repository.root / "include").items():
            shared.parent.mkdir(parents=True, exist_ok=True)
            shared.write_text(text, encoding="utf-8")
            written.append(shared)
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{wishes.name}-", dir=folder.parent))
        staged.chmod(0o755)
        try:
            _write_code(staged, wishes)
            staged.rename(folder)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        written.append(folder)
        with manifest.open("x", encoding="utf-8") as file:
            written.insert(0, manifest)
            file.write(_filled("manifest.yaml", wishes))
    except OSError as error:
        remove(written)
        raise click.UsageError(f"the project cannot be written: {error}") from None
    return written


def remove(written: Sequence[Path]) -> None:
    """Takes back what `lay_out` wrote: files, and the folder of the code, which Python may have cached something in."""
    for path in written:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_library(repository: Repository) -> None:
    """The pipeline of a new project imports `component` and `HANDOVER` from it."""
    library = repository.root / "include" / "pipelines" / "_lib" / "__init__.py"
    if library.exists():
        try:
            function_signature(library, "component")
        except Unreadable as error:
            raise click.UsageError(
                f"{repository.shown(library)} is not the library that the pipeline of a new project imports "
                f"({error.summary}); give that package another name, and mlfleet brings its own"
            ) from None


def _shared(include: Path) -> dict[Path, str]:
    """What projects refer to and a repository of an installed mlfleet does not have yet, by path."""
    schema = include / "schema" / "mlfleet-v1.json"
    found = {} if schema.exists() else {schema: schema_text()}
    for template in sorted(SHARED.rglob("*.tmpl")):
        path = include / template.relative_to(SHARED).with_suffix("")
        if not path.exists():
            found[path] = template.read_text(encoding="utf-8")
    return found


def _write_code(folder: Path, wishes: Wishes) -> None:
    for template in sorted((TEMPLATES / "project").glob("*.tmpl")):
        if template.stem != "manifest.yaml":
            (folder / template.stem).write_text(_filled(template.stem, wishes), encoding="utf-8")
    for link, component in LINKS.items():
        (folder / link).symlink_to(f"../../components/{component}")


def _filled(name: str, wishes: Wishes) -> str:
    text = (TEMPLATES / "project" / f"{name}.tmpl").read_text(encoding="utf-8")
    return _Template(text).substitute(_values(wishes)).rstrip("\n") + "\n"


def _values(wishes: Wishes) -> dict[str, str]:
    columns = wishes.columns
    categories = "".join(f"\n    ({name!r}, {texts!r})," for name, texts in columns.categories)
    return {
        "name": wishes.name,
        "short": wishes.name[:58],
        "title_line": f"title: {_quoted(wishes.title)}\n" if wishes.title else "",
        "owners": "\n".join(["owners:", *(f"  - github: {_quoted(owner)}" for owner in wishes.owners)]),
        "schedule": _schedule(wishes.cron),
        "experiments": "".join(f"  - name: {_quoted(name)}\n" for name in wishes.experiments),
        "data": _quoted(f"${{env.data_root}}/{columns.file}"),
        "target": " ".join(columns.target.split()),
        "target_literal": repr(columns.target),
        "numbers": repr(columns.numbers),
        "categories": f"[{categories}\n]" if categories else "",
        "deploy": _DEPLOY.substitute(name=wishes.name, pipeline=_quoted(wishes.deploy)) if wishes.deploy else "",
    }


_DEPLOY = _Template("""
# The push of a tag that starts with `release-` is the deployment: this pipeline's docker trigger waits for it.
deploy:
  spinnaker: {application: %%name, pipeline: %%pipeline}
""")


def _schedule(cron: str) -> str:
    if not cron:
        return '# Runs start by hand; a schedule would be `schedule: {cron: "0 3 * * *"}`.\n'
    return f"\nschedule:\n  cron: {_quoted(cron)}\n"


def _quoted(text: str) -> str:
    """A YAML scalar: plain where nothing can be read into it, else JSON's string, which is YAML's, too."""
    plain = re.fullmatch(r"[A-Z][A-Za-z]+( [A-Za-z]+)*|[a-z]+-[a-z-]+", text) and text.lower() not in _NOT_TEXT
    return text if plain else json.dumps(text, ensure_ascii=False)
