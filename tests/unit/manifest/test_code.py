"""What the polyaxonfile and the pipeline say of their params, and what a manifest that says otherwise is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfleet.manifest.code import Signature, Unreadable, pipeline_signature, polyaxon_signature
from mlfleet.manifest.diagnostics import Diagnostic
from mlfleet.manifest.loading import Repository, load_manifest
from tests.unit.manifest.samples import FULL, environment_of

COMPONENT = """\
kind: component
inputs:
  - {name: data, type: str}
  - {name: segment, type: str, isOptional: true}
  - {name: depth, type: int, value: 3}
run: {kind: job}
"""
PIPELINE = """\
from kfp import dsl

@dsl.pipeline(name="p")
def package(until: str, depth: int = 3, *, model: Output[Model] = None):
    pass
"""


def signature_of(tmp_path: Path, text: str, function: str = "package") -> Signature | None:
    file = tmp_path / "code"
    file.write_text(text)
    return pipeline_signature(file, function) if "def " in text or "import" in text else polyaxon_signature(file)


def findings(repository: Repository, manifest: str = FULL, polyaxon: str = "", pipeline: str = "") -> list[Diagnostic]:
    folder = repository.folder_of("prices")
    (folder / "polyaxonfile.yaml").write_text(polyaxon)
    (folder / "pipeline.py").write_text(pipeline)
    path = repository.projects / "prices.yaml"
    path.write_text(manifest)
    return load_manifest(path, repository, [environment_of(repository)]).diagnostics


def test_inputs_of_a_component(tmp_path: Path) -> None:
    assert signature_of(tmp_path, COMPONENT) == Signature(("data", "segment", "depth"), frozenset({"data"}))


def test_an_operation_gives_some_by_itself(tmp_path: Path) -> None:
    component = "".join(f"  {line}\n" for line in COMPONENT.splitlines())
    operation = f"kind: operation\nparams: {{data: {{value: x}}}}\ncomponent:\n{component}"
    assert signature_of(tmp_path, operation) == Signature(("data", "segment", "depth"), frozenset())
    assert signature_of(tmp_path, "kind: operation\nhubRef: acme/tune\n") is None


def test_parameters_of_a_pipeline(tmp_path: Path) -> None:
    assert signature_of(tmp_path, PIPELINE) == Signature(("until", "depth"), frozenset({"until"}))


@pytest.mark.parametrize(
    "text",
    [
        PIPELINE.replace("depth: int = 3", "depth=3").replace("*, model: Output[Model] = None", "**more"),
        PIPELINE.replace("@dsl.pipeline", "@ours.adds_a_parameter"),
        "from shared import package\n",
        "from shared import *\n",
        "import os\npackage = make()\n",
        "import os\nif os:\n    def package(): pass\n",
    ],
)
def test_silent_when_it_cannot_be_told(tmp_path: Path, text: str) -> None:
    assert signature_of(tmp_path, text) is None


def test_what_is_no_pipeline_and_no_polyaxonfile(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no function 'pakage'") as caught:
        signature_of(tmp_path, PIPELINE, "pakage")
    assert caught.value.fix == "did you mean 'package'?"
    with pytest.raises(Unreadable, match="code:1:5 is not valid Python"):
        signature_of(tmp_path, "def (:\n")
    with pytest.raises(Unreadable, match="code:2:1 is not valid YAML"):
        signature_of(tmp_path, "a: [\n")
    with pytest.raises(Unreadable, match="is no polyaxonfile"):
        signature_of(tmp_path, "kind: job\n")


def test_nesting_that_would_bring_the_parser_down(tmp_path: Path) -> None:
    """The C composer recurses without a bound: the process of all manifests would be gone."""
    with pytest.raises(Unreadable, match="levels of nesting"):
        signature_of(tmp_path, "kind: component\ninputs: " + "[" * 100_000)
    with pytest.raises(Unreadable, match="bytes"):
        signature_of(tmp_path, "kind: component\n" + "# filler\n" * 130_000)
    with pytest.raises(Unreadable, match=r"valid Python|cannot be read"):
        signature_of(tmp_path, "def package():\n    " + "(" * 100_000)


def test_other_peoples_warnings_stay_theirs(tmp_path: Path) -> None:
    assert signature_of(tmp_path, PIPELINE + 'pattern = "\\d"\n') is not None


def test_params_that_fit_give_no_finding(repository: Repository) -> None:
    assert findings(repository, FULL, COMPONENT, PIPELINE) == []


@pytest.mark.parametrize(
    ("old", "new", "id", "place", "says"),
    [
        ("segment: \"${experiment", "sement: \"${experiment", "MF022", (23, 49), "did you mean 'segment'?"),
        ("params: {depth: {kind", "params: {dept: {kind", "MF022", (24, 51), "has no input 'dept'"),
        ("until: \"", "untill: \"", "MF022", (29, 54), "the pipeline 'package' has no parameter 'untill'"),
    ],
)  # fmt: skip
def test_a_param_that_nothing_takes(
    repository: Repository, old: str, new: str, id: str, place: tuple[int, int], says: str
) -> None:
    assert old in FULL
    found = findings(repository, FULL.replace(old, new), COMPONENT, PIPELINE)[0]
    assert (found.id, (found.line, found.column)) == (id, place), str(found)
    assert says in str(found)


def test_an_input_without_a_value(repository: Repository) -> None:
    wants_more = COMPONENT.replace("name: segment, type: str, isOptional: true", "name: segment, type: str")
    manifest = FULL.replace(', segment: "${experiment.params.segment}"', "")
    (found,) = findings(repository, manifest, wants_more, PIPELINE)
    assert (found.id, found.path) == ("MF023", "training.polyaxon.params")
    assert "the input 'segment' of polyaxonfile.yaml has no value" in str(found)


def test_a_file_outside_is_not_read(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "polyaxonfile.yaml"
    outside.write_text("kind: job\n")
    manifest = FULL.replace("polyaxonfile: polyaxonfile.yaml", f"polyaxonfile: {outside}")
    assert [found.id for found in findings(repository, manifest, "", PIPELINE)] == ["MF018"]


def test_the_values_of_a_mapping_search_are_params(repository: Repository) -> None:
    manifest = FULL.replace(
        "{kind: grid, concurrency: 2, params: {depth: {kind: choice, value: [2, 4]}}}",
        "{kind: mapping, values: [{depth: 2}, {dept: 4}]}",
    )
    (found,) = findings(repository, manifest, COMPONENT, PIPELINE)
    assert (found.id, found.path) == ("MF022", "training.polyaxon.matrix.values[1].dept")
