"""``include/environments/<name>.yaml``: which connections an environment has, and its values for ``${env.*}``.

::

    name: dev
    connections: {polyaxon: polyaxon_default, kfp: kfp_default, ...}      # Airflow connection ids, all optional
    values: {data_root: "${process.MLFLEET_DATA_ROOT}", ...}              # read as ${env.data_root}
    pages: {repository: "https://github.com/acme/fleet/blob/main", ...}   # for people, in the DAGs' documentation
    registry: registry.example.com                                        # what `mlfleet plan` needs besides
    buckets: {models: gs://acme-models}
    polyaxon: {owner: acme}
    kfp: {namespace: ml-team}
    spinnaker: {account: acme-registry, template: include/spinnaker/deploy.yaml}
    quotas: {pools: {gpu: {slots: 4}}}
    nodes: {pools: {gpu: {selector: {pool: gpu}}}, ...}                   # what `node_pool` and `preemptible` mean

``${process.NAME}`` in ``values``, ``registry`` and ``buckets`` is a variable of the process; it is read when a task
runs, or a plan is made, so a manifest can be checked where it is not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from mlfleet.errors import ConfigError, ManifestError
from mlfleet.manifest import references
from mlfleet.manifest.diagnostics import Diagnostic, errors, nearest
from mlfleet.manifest.document import Document, parse
from mlfleet.manifest.names import ProjectName, RelativePath, Url
from mlfleet.manifest.naming import VARIABLE, selected_name
from mlfleet.manifest.sections import Section
from mlfleet.manifest.translate import report
from mlfleet.manifest.values import Text

SUFFIXES = (".yaml", ".yml")


class Connections(Section):
    """Airflow connection ids by system."""

    polyaxon: Text = "polyaxon_default"
    kfp: Text = "kfp_default"
    spinnaker: Text = "spinnaker_default"
    container_registry: Text = "container_registry_default"
    google: Text = "google_cloud_default"
    # Whose pools `mlfleet apply` makes; without one nobody does.
    airflow: Text | None = None


class Pages(Section):
    """Web pages that the documentation of each DAG links to; what belongs to the project is appended.

    ``repository``  its files: ``/include/projects/<project>.yaml`` follows
    ``polyaxon``    an owner's projects, ``https://polyaxon.example.com/ui/default``: ``/<project>/runs`` follows
    ``kfp``         the UI: ``/#/runs`` follows
    ``spinnaker``   the UI (Deck): ``/#/applications/<application>/executions`` follows
    """

    repository: Url | None = None
    polyaxon: Url | None = None
    kfp: Url | None = None
    spinnaker: Url | None = None


class PolyaxonPlace(Section):
    """Whose projects these are; None for what the connection says."""

    owner: Text | None = None


class KFPPlace(Section):
    """Where experiments are made in multi-user mode; None for what the connection says."""

    namespace: Text | None = None


class SpinnakerPlace(Section):
    """What `mlfleet plan` makes pipelines from.

    ``account``   Spinnaker's account of the container registry, which docker triggers name
    ``template``  a file of the repository with the application and its pipelines
    """

    account: Text
    template: RelativePath


class PoolQuota(Section):
    """An Airflow pool: ``slots`` -1 is without bound.

    Deferred tasks count unless told otherwise: a pool is there to bound remote jobs, which run while their task waits
    in the triggerer.
    """

    slots: int = Field(ge=-1)
    include_deferred: bool = True
    description: Text | None = None


class Quotas(Section):
    """How much may run at a time, by Airflow pool."""

    pools: dict[Text, PoolQuota] = Field(default_factory=dict)


class Toleration(Section):
    """A taint of nodes that does not keep a run away, as Kubernetes writes it."""

    key: Text | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class NodePool(Section):
    """Nodes of a cluster: the labels that they have, and the taints."""

    selector: dict[str, str]
    tolerations: list[Toleration] = Field(default_factory=list)


class Nodes(Section):
    """What manifests mean by the nodes that they ask for.

    ``pools``        by the name that ``node_pool`` uses; with none, a pool is one of GKE
    ``preemptible``  nodes that may be taken away at any time; default: GKE's spot nodes
    ``gpu``          Kubernetes' name of the GPUs
    """

    pools: dict[str, NodePool] = Field(default_factory=dict)
    preemptible: NodePool | None = None
    gpu: Text = "nvidia.com/gpu"


class Environment(Section):
    """One environment; ``values`` as written, with ``${process.NAME}`` unresolved.

    ``fleet`` marks what this repository has made in systems that it shares with others. ``branches`` are patterns of
    the git branches whose pipelines `mlfleet pipelines upload` brings here; without it ``main`` for prod, and any other
    one for dev.
    """

    name: Text
    fleet: ProjectName = "mlfleet"
    connections: Connections = Connections()
    registry: Text | None = None
    buckets: dict[Text, Text] = Field(default_factory=dict)
    polyaxon: PolyaxonPlace = PolyaxonPlace()
    kfp: KFPPlace = KFPPlace()
    spinnaker: SpinnakerPlace | None = None
    quotas: Quotas = Quotas()
    branches: list[Text] | None = None
    values: dict[str, JsonValue] = Field(default_factory=dict)
    pages: Pages = Pages()
    nodes: Nodes | None = None


def load_environment(path: Path, shown_as: str = "") -> tuple[Environment | None, list[Diagnostic]]:
    """Reads one file; the environment is None when there are errors among the diagnostics."""
    try:
        document = parse(path.read_text(encoding="utf-8"), shown_as or str(path))
    except (OSError, UnicodeDecodeError) as error:
        document = Document(shown_as or str(path), "")
        document.report("MF001", (), f"the file cannot be read: {error}")
    if document.data is None:
        return None, document.diagnostics
    try:
        environment = Environment.model_validate(document.data)
    except ValidationError as error:
        report(document, error, Environment)
        return None, document.diagnostics
    if environment.name != path.stem:
        document.report("MF015", ("name",), f"the environment of {path.name} is called {environment.name!r}",
                        f"name: {path.stem}")  # fmt: skip
    _check_values(document, environment)
    return (None if errors(document.diagnostics) else environment), document.diagnostics


def select_environment(folder: Path, environ: Mapping[str, str] | None = None, name: str = "") -> Environment:
    """The environment called ``name``, or else the one that ``MLFLEET_ENV`` names (default dev).

    Raises ConfigError or ManifestError when it cannot be used.
    """
    asked = name or selected_name(environ)
    for suffix in SUFFIXES:
        path = folder / f"{asked}{suffix}"
        if path.is_file() and path.parent == folder:
            environment, diagnostics = load_environment(path, f"{folder.parent.name}/{folder.name}/{path.name}")
            if environment is None:
                raise ManifestError(errors(diagnostics))
            return environment
    known = environment_names(folder)
    near = nearest(asked, known)
    todo = f"Did you mean {near!r}?" if near else f"Known: {', '.join(known)}" if known else f"Write {asked}.yaml there"
    raise ConfigError(
        f"there is no environment {asked!r} ({'--env' if name else VARIABLE})", "include/environments", todo
    )


def environment_names(folder: Path) -> list[str]:
    """The environments that have a file, sorted."""
    return sorted(path.stem for path in folder.glob("*") if path.suffix in SUFFIXES)


def _check_values(document: Document, environment: Environment) -> None:
    written: dict[tuple[str, ...], JsonValue] = {("values", key): value for key, value in environment.values.items()}
    written |= {("buckets", key): value for key, value in environment.buckets.items()}
    written[("registry",)] = environment.registry
    for path, value in written.items():
        if not isinstance(value, str):
            continue
        try:
            for reference in references.paths_in(value):
                references.check(reference, (references.PROCESS_SCOPE,))
        except references.BadReference as problem:
            document.report("MF014", path, problem.summary, problem.fix)
