"""Checked sections as text and back: what a DAG is built from where nobody defines the models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfleet.manifest import kept
from mlfleet.manifest.document import parse
from mlfleet.manifest.environments import Environment, load_environment
from mlfleet.manifest.loading import Loaded
from mlfleet.manifest.models import Project
from tests.unit.manifest.samples import FULL, MINIMAL

ROOT = Path(__file__).parents[3]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$", "$$", "$day", "$duration", "$x", "x", "", "items", "_model"]), inner)
    ),
    max_leaves=12,
)


def again(**sections: Any) -> Any:
    return kept.load(kept.dump(sections))


def project_of(text: str) -> Project:
    return Project.model_validate(parse(text, "test.yaml").data)


def same(model: Any, found: Any) -> None:
    """Every field, down to the last."""
    if hasattr(type(model), "model_fields"):
        assert set(dict(found)) == set(dict(model))
        for name, value in model:
            same(value, getattr(found, name))
    elif isinstance(model, list):
        assert len(model) == len(found)
        for one, other in zip(model, found, strict=True):
            same(one, other)
    elif isinstance(model, dict) and any(hasattr(type(value), "model_fields") for value in model.values()):
        assert list(model) == list(found)
        for name, value in model.items():
            same(value, found[name])
    else:
        assert (type(found), found) == (type(model), model)


def test_a_project_has_its_fields_again(load: Callable[[str], Loaded]) -> None:
    project = load(FULL).require()
    same(project, again(project=project)["project"])


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_an_environment_has_its_fields_again(name: str) -> None:
    environment, diagnostics = load_environment(ROOT / "include" / "environments" / f"{name}.yaml")
    assert environment is not None, diagnostics
    same(environment, again(environment=environment)["environment"])


@given(value=JSON)
def test_what_people_write_is_taken_for_no_section(value: Any) -> None:
    project = project_of(MINIMAL).model_copy(update={"annotations": {"here": value}})
    assert again(project=project)["project"].annotations == {"here": value}


def test_equal_projects_give_equal_text() -> None:
    one, other = project_of(MINIMAL + "labels: {a: b, c: d}\n"), project_of(MINIMAL + "labels: {c: d, a: b}\n")
    assert kept.dump({"project": one}) == kept.dump({"project": other})


def test_a_field_that_was_not_known_yet_has_its_default() -> None:
    text = json.loads(kept.dump({"project": project_of(FULL)}))
    del text["project"]["retries"], text["project"]["training"]["polyaxon"]["on_failed"], text["project"]["pools"]
    project = kept.load(json.dumps(text))["project"]
    assert (project.retries.count, project.training.polyaxon.on_failed, project.pools) == (1, "resubmit", None)


@pytest.mark.parametrize("name", ["owners", "nothing", "_hidden"])
def test_what_nobody_knows_is_an_error(name: str) -> None:
    text = json.loads(kept.dump({"project": project_of(MINIMAL)}))
    text["project"].pop(name, None)
    with pytest.raises(AttributeError, match=name):
        getattr(kept.load(json.dumps(text))["project"], name)


def test_a_changed_copy_leaves_the_first_alone() -> None:
    project = again(project=project_of(MINIMAL))["project"]
    titled = project.model_copy(update={"title": "Prices"})
    assert (project.title, titled.title, titled.name) == (None, "Prices", "prices")
    assert titled != project == again(project=project_of(MINIMAL))["project"]
    assert titled.experiments[0].slug == "default"


def test_only_sections_of_manifests_are_kept() -> None:
    with pytest.raises(TypeError):
        kept.dump({"project": object()})


def test_an_environment_of_nothing_but_defaults() -> None:
    environment = Environment(name="dev")
    same(environment, again(environment=environment)["environment"])
