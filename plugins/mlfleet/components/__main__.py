"""``python -m mlfleet.components clone|polyaxon-job``: what the container components of include/components run.

Outputs are written to the files that KFP names; secrets come from the environment alone, see ``running``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlfleet.components.polyaxon_job import JobRequest, KFPStep
from mlfleet.components.running import Addresses, clone_repository, polyaxon_job
from mlfleet.remote.policies import OnFailed


def main(argv: Sequence[str] | None = None) -> int:
    """The program; 0 on success."""
    options = _parser().parse_args(argv)
    if options.command == "clone":
        commit = clone_repository(options.repository, options.ref, options.path, options.to, options.user)
        _write(options.commit_output, commit)
        return 0
    request = JobRequest(
        source=options.source,
        polyaxonfile=options.polyaxonfile,
        project=options.project,
        params=options.params,
        files=options.files,
        name=options.name,
        on_failed=OnFailed(options.on_failed),
        timeout=options.timeout,
    )
    step = KFPStep(options.environment, options.run_id, options.task, options.iteration)
    addresses = Addresses(options.polyaxon, options.kfp, options.owner, options.namespace)
    result = polyaxon_job(request, step, addresses)
    for place, value in (
        (options.project_output, result.project), (options.user_output, result.user),
        (options.job_id_output, result.job_id), (options.status_output, result.status),
        (options.outputs_output, json.dumps(result.outputs)),
    ):  # fmt: skip
        _write(place, value)
    return 0


def _write(place: Path, value: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(value)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlfleet.components", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cloning = commands.add_parser("clone", help="a repository's files at a ref, without history")
    cloning.add_argument("--repository", required=True, help="http(s) address; the token is in GIT_TOKEN")
    cloning.add_argument("--ref", default="main", help="branch, tag or commit")
    cloning.add_argument("--path", default="", help="folder of the repository that is wanted, all of it by default")
    cloning.add_argument("--user", default="x-access-token", help="what the host expects beside a token")
    cloning.add_argument("--to", type=Path, required=True)
    cloning.add_argument("--commit-output", type=Path, required=True)
    job = commands.add_parser("polyaxon-job", help="a Polyaxon job to its end; the token is in POLYAXON_AUTH_TOKEN")
    for name in ("--polyaxon", "--kfp", "--project", "--polyaxonfile", "--run-id", "--task"):
        job.add_argument(name, required=True)
    for name, default in (("--owner", "default"), ("--namespace", "polyaxon"), ("--environment", ""),
                          ("--iteration", ""), ("--name", "")):  # fmt: skip
        job.add_argument(name, default=default)
    job.add_argument("--source", type=Path, required=True, help="folder with the repository's files")
    job.add_argument("--params", type=_object, default={}, help="JSON object")
    job.add_argument("--files", type=_object, default={}, help="JSON object: name in the run to path")
    job.add_argument("--on-failed", choices=[str(each) for each in OnFailed], default=OnFailed.RESUBMIT.value)
    job.add_argument("--timeout", type=float, default=0.0, help="seconds, 0 for never")
    for name in ("project", "user", "job-id", "status", "outputs"):
        job.add_argument(f"--{name}-output", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
