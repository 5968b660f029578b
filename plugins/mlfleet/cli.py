"""The ``mlfleet`` command: what people and CI do with manifests. Imports no Airflow.

Exit codes: 0 all is well (warnings allowed); 1 a manifest or environment file has errors; 2 the command was called
wrongly, or there was nothing to look at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlfleet import __version__
from mlfleet.manifest.diagnostics import errors, nearest
from mlfleet.manifest.environments import SUFFIXES
from mlfleet.manifest.loading import Repository, find_manifest, load_fleet
from mlfleet.manifest.rendering import rendered

OK, FOUND_ERRORS, USAGE = 0, 1, 2


class UsageError(Exception):
    """The command cannot do anything with its arguments; the text says what to do instead."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; findings go to stdout, faults of the call to stderr."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        repository = _repository(options.root, getattr(options, "paths", []))
        code: int = options.run(options, repository)
        return code
    except UsageError as error:
        print(f"mlfleet: {error}", file=sys.stderr)
        return USAGE


def validate(options: argparse.Namespace, repository: Repository) -> int:
    """``mlfleet validate [PATH ...]``: every finding of the given manifests, or of all in include/projects."""
    paths = _manifest_files(options.paths) if options.paths else repository.manifests()
    if not paths:
        raise UsageError(f"no manifest in {repository.shown(repository.projects)}; write one, or name files")
    fleet = load_fleet(repository, paths)
    found = fleet.all_diagnostics()
    for diagnostic in found:
        print(diagnostic, end="\n\n")
    wrong = errors(found)
    print(f"{len(paths)} manifest{_s(paths)}, {len(wrong)} error{_s(wrong)}, {len(found) - len(wrong)} "
          f"warning{'' if len(found) - len(wrong) == 1 else 's'}")  # fmt: skip
    return FOUND_ERRORS if wrong else OK


def render(options: argparse.Namespace, repository: Repository) -> int:
    """``mlfleet render PROJECT``: the manifest as mlfleet understands it, with defaults filled in, as YAML."""
    fleet = load_fleet(repository, [_path_of(options.project, repository)])
    for diagnostic in fleet.all_diagnostics():
        print(diagnostic, file=sys.stderr, end="\n\n")
    project = fleet.manifests[0].project
    if project is None:
        return FOUND_ERRORS
    print(rendered(project), end="")
    return FOUND_ERRORS if errors(fleet.all_diagnostics()) else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlfleet", description="Manifests of ML projects.", epilog="exit codes: 0 fine, 1 errors in files, 2 usage"
    )
    parser.add_argument("--version", action="version", version=f"mlfleet {__version__}")
    parser.add_argument("--root", type=Path, help="the deployment repository (default: the one around here)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("validate", help="say everything that is wrong with manifests",
                                description=validate.__doc__)  # fmt: skip
    check.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="files or folders (default: include/projects)"
    )
    check.set_defaults(run=validate)
    show = commands.add_parser("render", help="show a manifest with all defaults filled in", description=render.__doc__)
    show.add_argument("project", metavar="PROJECT", help="name of a project, or the path of a manifest")
    show.set_defaults(run=render)
    return parser


def _repository(root: Path | None, paths: Sequence[Path]) -> Repository:
    if root is not None:
        if not root.is_dir():
            raise UsageError(f"there is no folder {root}")
        return Repository(root.resolve())
    around = (Repository.around(start) for start in (*paths[:1], Path.cwd()))
    return next((found for found in around if found), Repository(Path.cwd()))


def _manifest_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(found for found in path.glob("*") if found.suffix in SUFFIXES)
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"there is no file or folder {path}")
    return files


def _path_of(project: str, repository: Repository) -> Path:
    path = Path(project)
    if path.suffix in SUFFIXES and path.is_file():
        return path
    found = find_manifest(repository, project)
    if found:
        return found
    names = [path.stem for path in repository.manifests()]
    near = nearest(project, names)
    hint = f"did you mean {near}?" if near else f"known: {', '.join(names) or 'none'}"
    raise UsageError(f"there is no project {project!r} in {repository.shown(repository.projects)}; {hint}")


def _s(things: Sequence[object]) -> str:
    return "" if len(things) == 1 else "s"


if __name__ == "__main__":
    sys.exit(main())
