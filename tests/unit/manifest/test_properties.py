"""Whatever is done to a manifest, it loads or is explained, and no other project notices.

`MLFLEET_PROPERTY_CASES` asks for more cases than CI runs, each time other ones.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlfleet.cli.report import as_github, as_json, coloured
from mlfleet.manifest import kept
from mlfleet.manifest.diagnostics import MEANINGS, Diagnostic, errors
from mlfleet.manifest.loading import Loaded, Repository, load_fleet
from mlfleet.manifest.models import Project
from mlfleet.manifest.rendering import plain, rendered, with_origins
from tests.unit.manifest.samples import FULL, MINIMAL
from tests.unit.manifest.test_kept import same

MORE = int(os.environ.get("MLFLEET_PROPERTY_CASES", "0"))
CASES = MORE or 500
DECK = (Path(__file__).parents[2] / "data" / "deck-manifest.yml").read_text(encoding="utf-8")
DECK_KEYS = ("kind", "name", "experiments", "owners")
NEIGHBOUR = MINIMAL.replace("prices", "neighbour") + "schedule: {asset: prices}\n"

careful = settings(
    max_examples=CASES, deadline=None, derandomize=not MORE, database=None, suppress_health_check=list(HealthCheck),
    print_blob=True,
)  # fmt: skip


@pytest.fixture
def load(repository: Repository) -> Callable[[str | bytes], Loaded]:
    """Loads a manifest beside a neighbour, and looks at what holds whatever was written."""
    (repository.projects / "neighbour.yaml").write_text(NEIGHBOUR)
    alone = load_fleet(repository).manifests[0].require()

    def load_one(text: str | bytes) -> Loaded:
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (repository.projects / "prices.yaml").write_bytes(content)
        neighbour, loaded = load_fleet(repository).manifests
        assert neighbour.project == alone, "the neighbour noticed"
        assert (loaded.project is None) == bool(errors(loaded.diagnostics))
        for found in loaded.diagnostics:
            check(found, loaded.document.text)
        as_json(loaded.diagnostics, 1).encode("utf-8", "surrogatepass")
        if loaded.project is not None:
            check_rendering(loaded)
        return loaded

    return load_one


def check(found: Diagnostic, text: str) -> None:
    """It points into the file, at the line that it shows, and can be written anywhere."""
    assert found.id in MEANINGS
    told = str(found)
    assert told.startswith(f"include/projects/prices.yaml:{found.line}:{found.column}: ")
    assert coloured(found).plain == told
    assert len(told.split("\n")) <= 4, "a finding is a line, the source, the caret and the fix"
    assert not [sign for sign in told if unicodedata.category(sign) == "Cc" and sign not in "\n\t"]
    assert "\n" not in as_github(found)
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
    assert 1 <= found.line <= len(lines)
    assert found.column >= 1
    if found.source:
        assert found.source == lines[found.line - 1]
        assert found.column <= len(found.source) + 1


def check_rendering(loaded: Loaded) -> None:
    """What `mlfleet render` prints loads to an equal project, and is the same with and without origins."""
    project = loaded.require()
    again = yaml.load(rendered(project), Loader=yaml.CSafeLoader)
    assert plain(Project.model_validate(again)) == plain(project)
    assert yaml.load(with_origins(project, loaded.document), Loader=yaml.CSafeLoader) == again
    # And what processes build its DAG from is the same project.
    same(project, kept.load(kept.dump({"project": project}))["project"])


FRAGMENTS = st.sampled_from(
    ["{", "}", "[", "]", ": ", "- ", ", ", "“", "”", "\t", "\n", "\r", "&a ", "*a", "<<: *a", "!!str ", "---\n",
     "yes", "0o7", "1_0", ".inf", "${", "${env.x}", "${data.end}", "{{", "'", '"', "\0", "\x85", "\u2028", "\ufeff",
     "é", "...", "1", "null", "~", "#", "|", ">", "%", "@", "?", "\x1b[31m", "\\", "../", "x" * 200, "9" * 30, "1e999"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """The text after one to four changes of lines, words or places."""
    for _ in range(draw(st.integers(1, 4))):
        lines = text.splitlines(keepends=True) or [""]
        line = draw(st.integers(0, len(lines) - 1))
        place = draw(st.integers(0, len(lines[line])))
        match draw(st.sampled_from(["drop", "repeat", "move", "insert", "cut", "indent", "dedent", "word"])):
            case "drop":
                del lines[line]
            case "repeat":
                lines.insert(draw(st.integers(0, len(lines))), lines[line])
            case "move":
                lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(line))
            case "insert":
                lines[line] = lines[line][:place] + draw(FRAGMENTS) + lines[line][place:]
            case "cut":
                lines[line] = lines[line][:place]
            case "indent":
                lines[line] = draw(st.sampled_from([" ", "  ", "\t"])) + lines[line]
            case "dedent":
                lines[line] = lines[line][2:]
            case _:
                lines[line] = lines[line][:place] + draw(st.text(max_size=5)) + lines[line][place + 1 :]
        text = "".join(lines)
    return text


TARGETS = """\
targets:
  dev: {schedule: null, experiments: [{name: Trading Cards, params: {segment: few}}]}
  prod: {training: {polyaxon: {matrix: {concurrency: 4}}}, tags: [live]}
"""


MORE_SECTIONS = """\
labels: {team: pricing}
pools: {default: ml, kfp: gpu}
notify: {webhook: room, events: [failure], late_after: 6h}
steps:
  before_training:
    - {name: check-rows, callable: "train.py:check", arguments: {minimum: 5}}
  after_deploy:
    - {name: warm-up, operator: package.module.Class}
"""


# Everything that a training and its image can be told, in flow style too: mutations hit values inside of lines.
WHOLE = """\
kind: Project
name: prices
owners: [{github: "@acme/pricing"}]
data:
  - {name: features, gcs: {bucket: b, object: "${data.end}/_SUCCESS", glob: true}, timeout: 6h, every: 1m}
  - {name: orders, bigquery: {project: p, dataset: d, table: t, partition: "${data.start}"}}
  - name: rates
    asset: {uri: "x-mlfleet://rates/released", since: end}
experiments:
  - name: Default
    training:
      polyaxon: {image: "big:1", resources: {gpus: 4}, node_pool: gpu, early_stopping: {value: 1}, queue: slow}
      kfp: {version: {name: main_0123abc}, service_account: big}
training:
  polyaxon:
    polyaxonfile: polyaxonfile.yaml
    image: "ml/train:${git.commit}"
    resources: {cpu: 0.5, memory: 16Gi, gpus: 1}
    node_pool: gpu
    preemptible: true
    queue: agent/gpu
    presets: [small]
    connections: [bucket]
    matrix: {kind: grid, params: {depth: {kind: choice, value: [2, 4]}}}
    best_by: {metric: mae, direction: min}
    early_stopping:
      value: 300
      failed_percent: 50
    volumes:
      - {name: cache, path: /cache, claim: c}
      - {name: shm, path: /dev/shm, memory: 2Gi, read_only: true}
    code: {connection: fleet, url: "https://github.com/acme/fleet"}
  kfp:
    pipeline: pipeline.py:package
    version: {branch: main, pipeline: prices}
    service_account: trainer
    pipeline_root: "gs://models/${project.name}"
image: {base: "${env.base_image}", platforms: [linux/amd64], backend: buildah}
deploy: {spinnaker: {application: prices, pipeline: deploy, tag_pattern: "^release-.*$"}}
"""
BUILT = WHOLE.replace('image: "big:1", ', "").replace(
    '    image: "ml/train:${git.commit}"\n', '    build: {connection: r, destination: "a:1", context: .}\n'
)


def test_what_is_mutated_is_valid(load: Callable[[str | bytes], Loaded]) -> None:
    for text in (FULL, WHOLE, BUILT):
        assert errors(load(text).diagnostics) == []


@careful
@given(text=st.one_of(mutated(FULL), mutated(FULL + TARGETS), mutated(MINIMAL + TARGETS),
                      mutated(FULL + MORE_SECTIONS + TARGETS), mutated(WHOLE), mutated(BUILT)))  # fmt: skip
def test_any_mutation_loads_or_is_explained(load: Callable[[str | bytes], Loaded], text: str) -> None:
    load(text)


@careful
@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=20).map(lambda end: FULL.encode() + end)))
@example(content=b"\xff\xfe")
@example(content=b"a: \xc2\x85b: c: d\n")
def test_any_bytes_load_or_are_explained(load: Callable[[str | bytes], Loaded], content: bytes) -> None:
    load(content)


COMPONENT = """\
kind: component
inputs:
  - {name: data, type: str}
  - {name: segment, isOptional: true}
  - {name: depth, value: 3}
run: {kind: job}
"""
PIPELINE = """\
from kfp import dsl

@dsl.pipeline(name="p")
def package(until: str, depth: int = 3, *, model: Output[Model] = None):
    pass
"""


@careful
@given(polyaxon=mutated(COMPONENT), pipeline=mutated(PIPELINE))
@example(polyaxon="kind: component\ninputs: {a: 1}\n", pipeline="def package(): pass\ndef package(x): pass\n")
@example(polyaxon="kind: component\ninputs: [{name: [a]}, {name: 2026-99-99}, 5]\n", pipeline="package: int")
def test_any_code_fits_or_is_explained(
    load: Callable[[str | bytes], Loaded], repository: Repository, polyaxon: str, pipeline: str
) -> None:
    folder = repository.folder_of("prices")
    (folder / "polyaxonfile.yaml").write_bytes(polyaxon.encode("utf-8", "surrogatepass"))
    (folder / "pipeline.py").write_bytes(pipeline.encode("utf-8", "surrogatepass"))
    assert {found.id for found in load(FULL).diagnostics} <= {"MF021", "MF022", "MF023"}


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20),
        st.sampled_from(["Default", "“Default”", "@acme/team", "prices", "${data.end}", "{{ ds }}", "Project"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.sampled_from(
        ["name", "github", "params", "email", "enabled"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def deck_with_other_values(draw: st.DrawFn) -> str:
    """The deck's manifest, with some of its four keys missing, misspelled, twice, or with any other value."""
    data: dict[str, Any] = yaml.safe_load(DECK)
    keys = draw(st.permutations(DECK_KEYS))
    lines = []
    for key in keys:
        shown, value = key, data[key]
        match draw(st.sampled_from(["keep", "keep", "drop", "misspell", "twice", "replace", "replace", "inside"])):
            case "drop":
                continue
            case "misspell":
                place = draw(st.integers(0, len(key) - 1))
                shown = (
                    key[:place]
                    + draw(st.sampled_from(["", "x", key[place] * 2, key[place].upper()]))
                    + key[place + 1 :]
                )
            case "twice":
                lines.append(f"{shown}: {json.dumps(value, ensure_ascii=False)}")
            case "replace":
                value = draw(values)
            case "inside" if isinstance(value, list):
                value = [*value[: draw(st.integers(0, len(value)))], draw(values)]
        lines.append(f"{shown}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


@careful
@given(text=st.one_of(deck_with_other_values(), mutated(DECK)))
@example(text=DECK)
def test_any_mutation_of_the_deck_manifest(load: Callable[[str | bytes], Loaded], text: str) -> None:
    load(text)


@pytest.mark.parametrize("key", DECK_KEYS)
def test_each_of_the_four_keys_is_asked_for(load: Callable[[str | bytes], Loaded], key: str) -> None:
    data = {name: value for name, value in yaml.safe_load(DECK).items() if name != key}
    (found,) = errors(load(yaml.safe_dump(data, allow_unicode=True)).diagnostics)
    assert (found.id, found.path) == ("MF011", key)


@pytest.mark.parametrize("key", DECK_KEYS)
@pytest.mark.parametrize("value", ["null", "[]", "{}", "5", "true", '""', "[null]", "[[]]", "[{}]", "[{a: 1}]"])
def test_no_wrong_value_of_the_four_keys_passes(load: Callable[[str | bytes], Loaded], key: str, value: str) -> None:
    lines = yaml.safe_dump({name: item for name, item in yaml.safe_load(DECK).items() if name != key})
    loaded = load(f"{lines}{key}: {value}\n")
    assert loaded.project is None
    assert {found.path.split("[")[0].split(".")[0] for found in errors(loaded.diagnostics)} == {key}
