"""Builds the image of a project's models with buildah, in the worker's own slot."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError, TransientError
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.links.remote_job import REMOTE_URL, RemoteJobLink
from mlfleet.operators.base import MlfleetOperator, find_file
from mlfleet.triggers.events import failing_fast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues
    from mlfleet.remote.job import JobKey
    from mlfleet.systems.buildah import BuildahBuilds, ImageSpec


class BuildImageOperator(MlfleetOperator):
    """Builds ``context`` and the models of ``models`` into one image and pushes it as ``build-<key>``.

    ``repository``   without host and tag; ``dockerfile`` and ``context`` are paths of the repository
    ``build_args``, ``labels``   values may hold ``${...}`` references
    ``platform``     what the image runs on, like ``linux/arm64``; default: what this machine does
    ``models``       experiment slug -> id of the task whose result has the ``model_uri``; the model lies in the context
                     under ``<models_dest>/<slug>/``
    ``buildah_root`` folder of buildah's store; default: variable MLFLEET_BUILDAH_ROOT, then the user's cache

    The tag is one that no Spinnaker trigger may match: only `release` changes production. A retry finds its own tag in
    the registry and builds nothing; a person's clear builds again under the next key. Labels say where the image comes
    from: project, run, commit, and for each experiment the ids and metrics of the runs before it.

    Not deferrable: the build is a child of the task and ends with it.
    Returns ``{"repository", "tag", "digest", "reference", "labels"}``; ``reference`` names the digest.
    """

    operator_extra_links = (RemoteJobLink(),)

    def __init__(
        self,
        *,
        repository: str,
        dockerfile: str,
        context: str,
        build_args: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
        models_dest: str = "models",
        labels: Mapping[str, Any] | None = None,
        platform: str | None = None,
        container_registry_conn_id: str = ContainerRegistryHook.default_conn_name,
        buildah_root: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.repository, self.dockerfile, self.context = repository, dockerfile, context
        self.build_args, self.labels = dict(build_args or {}), dict(labels or {})
        self.platform = platform
        self.models, self.models_dest = dict(models or {}), models_dest
        self.container_registry_conn_id = container_registry_conn_id
        self.buildah_root = buildah_root
        self._builds: BuildahBuilds | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Assemble the context, build, push."""
        from mlfleet.hooks.registry_access import page_of, registry_of
        from mlfleet.systems.buildah import BuildahBuilds

        with failing_fast(), _full_disk_named(), tempfile.TemporaryDirectory(prefix="mlfleet-context-") as folder:
            spec = self._spec(self.values(context), context, Path(folder) / "context")
            key, spec_hash = self._key(spec, context)
            registry, connect = registry_of(ContainerRegistryHook(self.container_registry_conn_id))
            context["ti"].xcom_push(key=REMOTE_URL, value=page_of(registry, self.repository, f"build-{key.value}"))
            self._builds = BuildahBuilds(
                registry,
                connect,
                root=Path(self.buildah_root) if self.buildah_root else None,
                tell=lambda line: self.log.info("%s", line),
            )
            image = self._builds.build(spec, key.value, spec_hash)
        self.log.info("%s:%s is %s", image.repository, image.tag, image.digest)
        return image.as_json()

    def on_kill(self) -> None:
        """End the build; nothing of it stays behind."""
        if self._builds is not None:
            self._builds.stop()

    def _spec(self, values: RunValues, context: Context, folder: Path) -> ImageSpec:
        from mlfleet.operators.image_labels import lineage_labels
        from mlfleet.systems.build_context import assemble
        from mlfleet.systems.buildah import ImageSpec

        dockerfile = find_file(self.dockerfile, context)
        if not dockerfile.is_file():
            raise ConfigError(f"{dockerfile} is not a file", "image.dockerfile of the manifest")
        results = {slug: _result(values, task_id, slug) for slug, task_id in self.models.items()}
        assemble(
            find_file(self.context, context),
            {slug: _model_uri(result, self.models[slug]) for slug, result in results.items()},
            folder,
            self.models_dest,
        )
        labels = lineage_labels(context, values, self.models)
        labels |= {name: str(value) for name, value in values.resolve(self.labels).items() if value not in (None, "")}
        build_args = {name: str(value) for name, value in values.resolve(self.build_args).items()}
        return ImageSpec(self.repository, folder, dockerfile, build_args, labels, self.platform)

    def _key(self, spec: ImageSpec, context: Context) -> tuple[JobKey, str]:
        from mlfleet.operators.records import TaskStateRecords, teller
        from mlfleet.operators.run_values import task_identity
        from mlfleet.remote import ordinal
        from mlfleet.remote.job import JobKey
        from mlfleet.systems.buildah_command import SYSTEM

        spec_hash = spec.hash
        record = ordinal.enter(
            TaskStateRecords(context["task_state_store"]),
            context["ti"].max_tries,
            spec_hash,
            tell=teller(self.log.info, SYSTEM),
        )
        return JobKey(task_identity(context), record.incarnation, record.n), spec_hash


def _result(values: RunValues, task_id: str, slug: str) -> Mapping[str, Any]:
    try:
        found = values.task_output(task_id)
    except LookupError as exc:
        raise ConfigError(f"there is no model of experiment {slug}: {exc}", f"task {task_id}") from None
    return found if isinstance(found, Mapping) else {}


def _model_uri(result: Mapping[str, Any], task_id: str) -> str:
    uri = result.get("model_uri")
    if not uri:
        has = ", ".join(sorted(result.get("artifacts") or {})) or "none"
        raise ConfigError(
            f"task {task_id} made no model: its run has no output artifact called `model`",
            f"its artifacts: {has}",
            "Let a component of the pipeline have an Output[Model] named model",
        )
    return str(uri)


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        where = f" ({exc.filename})" if exc.filename else ""
        raise TransientError("buildah", f"this worker's disk is full{where}; make room and run the task again") from exc
