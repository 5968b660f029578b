"""Which pipelines may have changed, in every state that a clone can be in."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from mlfleet.cli import main
from mlfleet.errors import ConfigError
from mlfleet.fleet.git import Git as Repository
from mlfleet.fleet.pipelines import Comparison, compare_with, read_state
from mlfleet.fleet.trees import Trees
from tests.unit.fleet.conftest import Git

MANIFEST = 'kind: Project\nname: {0}\nowners: [{{github: "@a/b"}}]\nexperiments: [{{name: D}}]\n'
KFP = "training: {kfp: {pipeline: pipeline.py:train}}\n"


def put(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(textwrap.dedent(text))


def project(root: Path, name: str, code: str = "") -> None:
    put(root, f"include/projects/{name}.yaml", MANIFEST.format(name) + KFP)
    put(root, f"include/pipelines/{name}/pipeline.py", code)


@pytest.fixture
def root(tmp_path: Path, git: Git) -> Path:
    """Two projects, of which only `cards` takes what is shared; committed on main."""
    project(tmp_path, "cards", "from components import scale\n")
    project(tmp_path, "prices", "import os\n")
    put(tmp_path, "include/components/scale.py", "FACTOR = 2\n")
    put(tmp_path, "include/environments/dev.yaml", "name: dev\n")
    put(tmp_path, "requirements.txt", "kfp==2.16.1\nnumpy==2.0\n")
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    return tmp_path


def compared(root: Path, base: str = "HEAD") -> Comparison:
    return compare_with(Repository.required(root), base)


def changed(root: Path, base: str = "HEAD") -> dict[str, tuple[str, ...]]:
    return {change.project: change.because for change in compared(root, base).changed}


def commit(git: Git, message: str = "more") -> str:
    git("add", "--all")
    git("commit", "--quiet", "-m", message)
    return git("rev-parse", "HEAD")


def test_what_is_not_committed_counts(root: Path, git: Git) -> None:
    assert changed(root) == {}
    put(root, "include/components/scale.py", "FACTOR = 3\n")
    assert changed(root) == {"cards": ("include/components/scale.py",)}
    git("add", "--all")
    assert changed(root) == {"cards": ("include/components/scale.py",)}
    put(root, "include/components/scale.py", "FACTOR = 2\n")
    assert changed(root) == {}
    put(root, "include/pipelines/prices/new file\n.py", "")
    assert changed(root) == {"prices": ("include/pipelines/prices/new file\n.py",)}


def test_a_file_that_git_ignores_does_not_count(root: Path) -> None:
    put(root, ".git/info/exclude", "*.pyc\n")
    put(root, "include/pipelines/prices/__pycache__/pipeline.pyc", "x")
    assert changed(root) == {}


def test_renames_and_deletions(root: Path, git: Git) -> None:
    git("mv", "include/pipelines/prices", "include/pipelines/toys")
    git("mv", "include/projects/prices.yaml", "include/projects/toys.yaml")
    put(root, "include/projects/toys.yaml", MANIFEST.format("toys") + KFP)
    git("rm", "--quiet", "include/components/scale.py")
    found = compared(root)
    assert {change.project: change.because for change in found.changed} == {
        "cards": ("include/components/scale.py",),
        "toys": ("new",),
    }
    assert found.removed == ("prices",)


def test_a_shared_module_that_moved_with_its_import(root: Path, git: Git) -> None:
    git("mv", "include/components/scale.py", "include/components/scaling.py")
    put(root, "include/pipelines/cards/pipeline.py", "from components import scaling\n")
    assert changed(root) == {
        "cards": (
            "include/components/scale.py", "include/components/scaling.py", "include/pipelines/cards/pipeline.py",
        )
    }  # fmt: skip


def test_a_manifest_matters_only_where_it_speaks_of_the_pipeline(root: Path) -> None:
    manifest = MANIFEST.format("cards")
    put(root, "include/projects/cards.yaml", "title: Cards\n" + manifest + KFP)
    assert changed(root) == {}
    put(root, "include/projects/cards.yaml", manifest + KFP.replace("train}", "train, caching: true}"))
    assert list(changed(root)) == ["cards"]
    put(root, "include/projects/cards.yaml", manifest + KFP.replace(":train", ":test"))
    assert list(changed(root)) == ["cards"]
    put(root, "include/projects/cards.yaml", manifest)
    assert compared(root).removed == ("cards",)


def test_targets_and_defaults_can_change_a_pipeline(root: Path) -> None:
    put(root, "include/defaults.yaml", "training: {kfp: {caching: true}}\n")
    assert set(changed(root)) == {"cards", "prices"}
    (root / "include/defaults.yaml").unlink()
    target = "targets: {dev: {training: {kfp: {pipeline: other.py:train}}}}\n"
    put(root, "include/projects/prices.yaml", MANIFEST.format("prices") + KFP + target)
    assert list(changed(root)) == ["prices"]


def test_a_new_compiler_may_change_all(root: Path) -> None:
    put(root, "requirements.txt", "kfp==2.16.1\nnumpy==2.1\n")
    assert changed(root) == {}
    put(root, "requirements.txt", "kfp==2.17.0\nnumpy==2.1\n")
    assert set(changed(root)) == {"cards", "prices"}
    assert changed(root)["cards"] == ("pin kfp==2.16.1", "pin kfp==2.17.0")


def test_only_this_side_of_where_histories_part(root: Path, git: Git) -> None:
    git("checkout", "--quiet", "-b", "topic")
    put(root, "include/pipelines/prices/pipeline.py", "x = 1\n")
    commit(git)
    git("checkout", "--quiet", "main")
    put(root, "include/pipelines/cards/pipeline.py", "x = 1\n")
    commit(git)
    git("checkout", "--quiet", "topic")
    assert list(changed(root, "main")) == ["prices"]
    git("merge", "--quiet", "--no-edit", "main")
    assert list(changed(root, "main")) == ["prices"]
    assert set(changed(root, "main~1")) == {"cards", "prices"}


def test_after_a_criss_cross_both_bases_count(root: Path, git: Git) -> None:
    for branch, name in (("one", "cards"), ("two", "prices")):
        git("checkout", "--quiet", "-b", branch, "main")
        put(root, f"include/pipelines/{name}/pipeline.py", f"x = '{branch}'\n")
        commit(git)
    git("checkout", "--quiet", "-b", "both", "one")
    git("merge", "--quiet", "--no-edit", "two")
    git("checkout", "--quiet", "-b", "too", "two")
    git("merge", "--quiet", "--no-edit", "one")
    assert len(git("merge-base", "--all", "both", "too").split()) == 2
    assert set(changed(root, "both")) == {"cards", "prices"}


def test_a_detached_head_is_as_good_as_a_branch(root: Path, git: Git) -> None:
    put(root, "include/pipelines/prices/pipeline.py", "x = 1\n")
    git("checkout", "--quiet", "--detach", commit(git))
    assert list(changed(root, "main~1")) == ["prices"]


def test_a_shallow_clone_says_how_to_deepen(root: Path, git: Git, tmp_path_factory: pytest.TempPathFactory) -> None:
    git("checkout", "--quiet", "-b", "topic")
    commits = []
    for number in range(3):
        put(root, "include/pipelines/prices/pipeline.py", f"x = {number}\n")
        commits.append(commit(git))
    git("checkout", "--quiet", "main")
    put(root, "README.md")
    commit(git)
    clone = tmp_path_factory.mktemp("clones") / "shallow"
    git("clone", "--quiet", "--depth=2", "--no-single-branch", "--branch=topic", f"file://{root}", str(clone))
    with pytest.raises(ConfigError, match=r"does not reach.*git fetch --unshallow.*fetch-depth: 0"):
        compared(clone, "origin/main")
    with pytest.raises(ConfigError, match=r"no commit.*shallow clone.*git fetch --unshallow"):
        compared(clone, commits[0])
    assert list(changed(clone, "HEAD~1")) == ["prices"]
    git("fetch", "--quiet", "--unshallow", cwd=clone)
    assert list(changed(clone, "origin/main")) == ["prices"]


def test_histories_with_nothing_in_common(root: Path, git: Git) -> None:
    git("checkout", "--quiet", "--orphan", "other")
    commit(git)
    with pytest.raises(ConfigError, match="no commit in common"):
        compared(root, "main")


@pytest.mark.parametrize("base", ["nowhere", "--help", "HEAD:README.md", ""])
def test_a_base_that_is_no_commit(root: Path, base: str) -> None:
    with pytest.raises(ConfigError, match="there is no commit"):
        compared(root, base)


def test_no_repository_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies in no git repository"):
        compared(tmp_path)


def test_a_deployment_below_the_top_of_its_git_repository(tmp_path: Path, git: Git) -> None:
    root = tmp_path / "ml"
    project(root, "cards", 'from components import scale\nopen("../../../../shared/a.txt")\n')
    put(root, "include/components/scale.py")
    put(tmp_path, "shared/a.txt")
    put(tmp_path, "elsewhere/b.txt")
    commit(git)
    assert changed(root) == {}
    put(tmp_path, "elsewhere/b.txt", "x")
    assert changed(root) == {}
    put(tmp_path, "shared/a.txt", "x")
    put(root, "include/components/scale.py", "x = 1")
    assert changed(root) == {"cards": ("ml/include/components/scale.py", "shared/a.txt")}


def test_a_manifest_that_cannot_be_read_is_said_and_the_others_are_told(
    root: Path, git: Git, capsys: pytest.CaptureFixture[str]
) -> None:
    put(root, "include/projects/prices.yaml", "name: [\n")
    put(root, "include/projects/toys.yaml", MANIFEST.format("toys") + KFP.replace("pipeline.py:train", "pipeline.py"))
    put(root, "include/components/scale.py", "FACTOR = 3\n")
    assert main(["--root", str(root), "pipelines", "changed", "--base", "HEAD", "-o", "names"]) == 1
    said = capsys.readouterr()
    assert said.out == "cards\n"
    assert "include/projects/prices.yaml:1:7: error MF002" in said.err
    assert "include/projects/toys.yaml:5:28: error MF012" in said.err
    commit(git)
    # Broken before and whole now: what it was is not known.
    put(root, "include/projects/prices.yaml", MANIFEST.format("prices") + KFP)
    (root / "include/projects/toys.yaml").unlink()
    assert changed(root) == {"prices": ("new",)}


def test_what_the_command_prints(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        put(root, f"include/pipelines/prices/{number}.py")
    assert main(["--root", str(root), "pipelines", "changed", "--base", "HEAD"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["prices", "changed", *(f"include/pipelines/prices/{n}.py," for n in range(3)), "and", "2",
                             "more"]  # fmt: skip
    assert last == "1 of 2 pipelines may compile to something else"
    assert main(["--root", str(root), "pipelines", "changed", "--base", "HEAD", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changed"][0]["pipelines"] == ["pipeline.py:train"]
    assert len(told["changed"][0]["because"]) == 5


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("from components.two import *", {"__init__", "two/__init__", "two/three"}),
        ("import components.two.three", {"__init__", "two/__init__", "two/three"}),
        ("if 0:\n    from components.two import three", {"__init__", "two/__init__", "two/three"}),
        ("import importlib\nimportlib.import_module('.one', 'components')", {"__init__", "one"}),
        ("import importlib\nimportlib.import_module('components.one')", {"__init__", "one"}),
        ("import importlib\nimportlib.import_module('..one', 'components.two')", {"__init__", "one"}),
        ("import importlib\nimportlib.import_module('.one', __package__)", "everything"),
        ("import importlib\nNAME = input()\nimportlib.import_module(NAME)", "everything"),
        ("import sys\nsys.path.append('../../components')\nimport one", {"one"}),
        ("import sys\nfrom pathlib import Path\nsys.path[:0] = []\n"
         "sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'components' / 'two'))\nimport three",
         {"two/three"}),
        ("import sys\nsys.path.append(input())", "everything"),
        ("import os\nopen(os.path.join(os.path.dirname(__file__), '..', '..', 'components', 'one.py'))", {"one"}),
        ("import os\nHERE = os.path.dirname(os.path.abspath(__file__))\n"
         "for name in 'ab':\n    open(f'{HERE}/../../components/two/{name}.py')", {"two/__init__", "two/three"}),
        ("open(input())", "everything"),
        ("import zipfile\nzipfile.ZipFile('a.zip').open('member')", set()),
        ("def f(where):\n    return where.read_text()", "everything"),
        ("def f(where):\n    return open(where)\nf('../../components/one.py')", "everything"),
        ("WHERE = 'components/one.py'\nimport helper\nhelper.read(WHERE)", {"one"}),
        ("from pathlib import Path\nlist(Path(__file__).parent.joinpath('../../components/two').glob('*.py'))",
         {"two/__init__", "two/three"}),
        ("from kfp import dsl\n@dsl.component\ndef f(a: str):\n    from components import one\n    open(a)", set()),
        ("from kfp import dsl\n@dsl.container_component\ndef f(a: str):\n    from components import one",
         {"__init__", "one"}),
        ("from kfp import dsl\n@dsl.component(base_image=open('../../components/one.py').read())\ndef f(): ...",
         {"one"}),
        ("exec(open('../../components/runner.py').read())", {"runner", "__init__", "one"}),
        ("import runpy\nrunpy.run_path('../../components/runner.py')", {"runner", "__init__", "one"}),
        ("def f(path):\n    with path.open() as file:\n        return file.read()", "everything"),
        ("def f(path):\n    return path.open('rb').read()", "everything"),
        ("import json, pandas\nfrom pathlib import Path\nROOT = Path(__file__).parents[2]\nprint(ROOT)\n"
         "pandas.read_csv(ROOT / 'components' / 'two' / 'three.py')", {"two/three"}),
        ("from pathlib import Path\nimport helper\nROOT = Path(__file__).parents[2]\nSHARED = ROOT / 'components'\n"
         "FILES = [SHARED / 'one.py']\ndef f(path=SHARED / 'two' / 'three.py'):\n    return SHARED / 'unused.py'",
         {"one", "two/three", "unused"}),
        ("from pathlib import Path\nimport helper\nhelper.all_of(Path(__file__).parents[2] / 'components' / 'two')",
         {"two/__init__", "two/three"}),
        ("this is no Python", set()),
        ("from ....... import far", set()),
    ],
)  # fmt: skip
def test_what_the_text_of_a_pipeline_takes(tmp_path: Path, git: Git, code: str, counts: set[str] | str) -> None:
    project(tmp_path, "cards", code)
    for path in ("__init__", "one", "two/__init__", "two/three", "unused"):
        put(tmp_path, f"include/components/{path}.py")
    put(tmp_path, "include/components/runner.py", "import components.one\n")
    put(tmp_path, "include/secret/a.txt")
    commit(git)
    with Trees(Repository.required(tmp_path)) as trees:
        state = read_state(trees.of_work_tree(), "")
        (declared,) = state.declared["cards"]
        found = state.closure(declared)
    assert "include/pipelines/cards/pipeline.py" in found.files
    if counts == "everything":
        assert "include/secret/a.txt" in found.files
        assert "include/pipelines/cards/pipeline.py:" in found.unbounded
        return
    prefix = "include/components/"
    taken = {path.removeprefix(prefix).removesuffix(".py") for path in found.files if path.startswith(prefix)}
    assert (taken, found.unbounded) == (set(counts), "")


def test_links_count_with_what_they_lead_to(tmp_path: Path, git: Git) -> None:
    project(tmp_path, "cards", "import own.inner\nfrom data import table\n")
    put(tmp_path, "include/components/lib/inner.py", "from . import beside\n")
    put(tmp_path, "include/components/lib/beside.py")
    put(tmp_path, "include/components/table.py")
    folder = tmp_path / "include/pipelines/cards"
    (folder / "own").symlink_to("../../components/lib")
    (folder / "data").mkdir()
    (folder / "data/table.py").symlink_to("../../../components/table.py")
    (folder / "gone").symlink_to("/nowhere")
    (folder / "round").symlink_to("round")
    commit(git)
    assert changed(tmp_path) == {}
    put(tmp_path, "include/components/lib/beside.py", "x = 1")
    put(tmp_path, "include/components/table.py", "x = 1")
    assert changed(tmp_path) == {"cards": ("include/components/lib/beside.py", "include/components/table.py")}
    git("checkout", "--quiet", ".")
    (folder / "own").unlink()
    (folder / "own").symlink_to("../../components")
    assert "include/pipelines/cards/own" in changed(tmp_path)["cards"]
