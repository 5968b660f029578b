"""What all operators share: references, files of the repository, Airflow's ``params``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.param import ParamsDict

from mlfleet.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues

# Set on DAGs whose file does not lie in the repository that holds their code.
REPOSITORY_ATTRIBUTE = "mlfleet_repository"
# Of the DAG's params, beside those of training (`param_of`): auto or never; a duration, or None.
RELEASE_PARAM = "release"
WINDOW_PARAM = "window"


def find_file(path: str, context: Context) -> Path:
    """A file or folder of the repository: absolute, relative to the DAG's repository, or to a folder above its file.

    Raises ConfigError that lists where it was looked for.
    """
    wanted = Path(path)
    if wanted.is_absolute():
        places = [wanted]
    else:
        dag = context.get("dag")
        known = getattr(dag, REPOSITORY_ATTRIBUTE, None)
        fileloc = getattr(dag, "fileloc", None) or ""
        around = [*Path(fileloc).parents[:4], Path.cwd()] if fileloc else [Path.cwd()]
        roots = [Path(known)] if known else around
        places = [root / wanted for root in roots]
    for place in places:
        if place.exists():
            return place
    raise ConfigError(f"{path} does not exist", ", ".join(str(place) for place in places), "Correct the manifest")


def own_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of an argument called ``params`` that were given to the task itself.

    Airflow merges a DAG's params into an argument of that name and wraps each in a Param (sdk bases/operator.py).
    """
    if isinstance(params, ParamsDict):
        own = {name: param for name in params if (param := params.get_param(name)).source != "dag"}
        # Asked through the dictionary a value is validated, which costs 2 ms even where there is no schema: a third of
        # the time in which a DAG is built.
        return {name: params[name] if param.schema else param.value for name, param in own.items()}
    return dict(params or {})


def param_of(system: str, name: str) -> str:
    """What a param of training is called among the DAG's params."""
    return f"{system}.{name}"


def as_asked(params: Mapping[str, Any], system: str, context: Context) -> dict[str, Any]:
    """``params`` with the values that a person gave this run in the trigger dialog (`factory.form`)."""
    asked: Mapping[str, Any] = context.get("params") or {}
    return {name: asked.get(param_of(system, name), value) for name, value in params.items()}


class MlfleetOperator(BaseOperator):
    """Every operator of mlfleet: takes ``references`` and resolves ``${...}`` with them; no Jinja in its arguments."""

    ui_color = "#e8f0fe"

    def __init__(self, *, references: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.references = dict(references or {})

    def values(self, context: Context) -> RunValues:
        """What references stand for in this run."""
        from mlfleet.operators.run_values import RunValues

        return RunValues(context, self.references)
