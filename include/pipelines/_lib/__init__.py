"""What the pipelines of this repository share: from ``include.pipelines._lib import component, HANDOVER``.

A pod has nothing of this repository, so whatever runs there travels in the compiled pipeline:

    FEATURES = Path(__file__).with_name("features.py").read_text()

    @component(modules={"features": FEATURES, **HANDOVER})
    def train(data: str, trained: Output[Model]):
        import features, handover

Two ways of the SDK were looked at and not taken: ``embedded_artifact_path`` packs times of modification into the
compiled file, so that each checkout and each second compiles to something else; ``additional_funcs`` takes functions
only. Nothing here reads a file that its caller names: `mlfleet pipelines changed` must see in the pipeline itself what
it is made of.
"""

import ast
import keyword
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, overload

from kfp import dsl

__all__ = ["HANDOVER", "IMAGE", "component"]

# Any image with Python, kfp and the serving packages; the sandbox needs none.
IMAGE = "registry.example.com/ml/training:py312"
# The module `handover`: what a component hands on to KFP's page, to Airflow and to the server of models.
HANDOVER = {"handover": Path(__file__).with_name("handover.py").read_text()}

# Files, and not modules made of text, so that a traceback shows their lines.
_PRELUDE = """\
import pathlib, sys, tempfile

sys.path.insert(0, tempfile.mkdtemp())
for _name, _source in {modules!r}.items():
    pathlib.Path(sys.path[0], _name + ".py").write_text(_source, encoding="utf-8")

"""


@overload
def component(function: Callable[..., Any], /) -> Any: ...
@overload
def component(
    *, modules: Mapping[str, str] | None = None, image: str = IMAGE
) -> Callable[[Callable[..., Any]], Any]: ...
def component(
    function: Callable[..., Any] | None = None,
    /,
    *,
    modules: Mapping[str, str] | None = None,
    image: str = IMAGE,
) -> Any:
    """A lightweight component that installs nothing and can import ``modules``.

    ``modules``  name to source; the component's body imports them by name, and they each other
    ``image``    has Python, kfp and what the code imports

    Raises ValueError for a module that can't be carried: a wrong name, or source that is no Python.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        made = dsl.component(function, base_image=image, packages_to_install=[], install_kfp_package=False)
        if modules:
            # The last word is the program that the SDK's executor loads.
            command = made.component_spec.implementation.container.command
            command[-1] = _prelude(modules) + command[-1]
        return made

    return decorate if function is None else decorate(function)


def _prelude(modules: Mapping[str, str]) -> str:
    for name, source in modules.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"a module can't be called {name!r}; give the name that the component imports")
        try:
            ast.parse(source)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"the module {name} is no Python: {error}") from error
        if "{{$" in source:
            raise ValueError(f"the module {name} holds '{{{{$', which KFP would take for a placeholder of its own")
    return _PRELUDE.format(modules=dict(modules))
