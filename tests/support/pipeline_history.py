"""A deployment repository whose history is made by chance: edits, renames, deletions, links and merges.

Every way that a pipeline can depend on a file is in it. Some commits leave pipelines that do not compile.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = """\
kind: Project
name: {name}
owners: [{{github: "@acme/ml"}}]
experiments: [{{name: Default}}]
training: {{kfp: {{pipeline: "pipeline.py:train", caching: {caching}}}}}
"""
PIPELINE = """\
from pathlib import Path

from kfp import components, dsl
{imports}

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def own(value: str) -> str:
    import not_there_at_compile_time

    return open("also-not-there").read() + value


@dsl.pipeline(name="{name}")
def train(value: str = "{value}"):
    own(value=value)
    {body}
"""
LOADED = """\
name: loaded
inputs: [{{name: text, type: String, default: "{value}"}}]
implementation:
  container: {{image: "python:3.11", command: [echo, "{value}", {{inputValue: text}}]}}
"""
LIBRARY = """\
from kfp import dsl

IMAGE = "python:{value}"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(text: str) -> str:
    return text
"""
# Each way: what is imported, and what the pipeline does with it.
WAYS = [
    ("import constants", "own(value=constants.VALUE)"),
    ("from _lib import data", "data.prepare(text=value)"),
    ("from components.pack.sub import deep", "own(value=deep.VALUE)"),
    ("import components.pack.plain as plain", "own(value=plain.VALUE)"),
    ('LOADED = components.load_component_from_file(str(Path(__file__).parents[2] / "components" / "loaded.yaml"))',
     "LOADED(text=value)"),
    ('TEXT = Path(__file__).with_name("query.sql").read_text()', "own(value=TEXT)"),
    ('TEXT = open("../../components/other.yaml").read()\nOTHER = components.load_component_from_text(TEXT)',
     "OTHER(text=value)"),
    ('import importlib\nplain = importlib.import_module("components.pack.plain")', "own(value=plain.VALUE)"),
    ('HERE = Path(__file__).parent\nTEXT = "".join((HERE / "sql" / f"{name}.sql").read_text() for name in ("a", "b"))',
     "own(value=TEXT)"),
    ("from _lib.reading import text_of\nTEXT = text_of('shared/notes.txt')", "own(value=TEXT)"),
    ("from components.linked import VALUE", "own(value=VALUE)"),
    ("import linked_here", "own(value=linked_here.VALUE)"),
]  # fmt: skip
Edit = Callable[["History"], None]


@dataclass
class History:
    """The repository at `root`; `commits` are in the order that they were made, merges included."""

    root: Path
    seed: int
    commits: list[str] = field(default_factory=list)
    counter: int = 0
    coming: list[Edit] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    # Files

    def put(self, path: str, text: str) -> None:
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)

    def value(self) -> str:
        self.counter += 1
        return f"v{self.counter}"

    def link(self, path: str, target: str) -> None:
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.unlink(missing_ok=True)
        full.symlink_to(target)

    def projects(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "include/projects").glob("*.yaml"))

    def project(self, way: int) -> None:
        self.counter += 1
        name = f"p{self.counter}"
        imports, body = WAYS[way % len(WAYS)]
        folder = f"include/pipelines/{name}"
        self.put(f"include/projects/{name}.yaml", MANIFEST.format(name=name, caching="false"))
        self.put(f"{folder}/pipeline.py", PIPELINE.format(imports=imports, body=body, name=name, value=self.value()))
        self.put(f"{folder}/constants.py", f'VALUE = "{self.value()}"\n')
        self.put(f"{folder}/query.sql", f"select {self.value()}\n")
        self.put(f"{folder}/train.py", f"print('{self.value()}')\n")
        for letter in "ab":
            self.put(f"{folder}/sql/{letter}.sql", f"select {self.value()}\n")
        self.link(f"{folder}/linked_here.py", "../../components/pack/plain.py")

    def start(self) -> None:
        self.git("init", "--quiet", "--initial-branch=main")
        self.put("requirements.txt", "kfp==2.16.1\n")
        self.put(".gitignore", "__pycache__/\n")
        for name in ("dev", "prod"):
            self.put(f"include/environments/{name}.yaml", f"name: {name}\n")
        self.put("include/pipelines/_lib/__init__.py", "")
        self.put("include/pipelines/_lib/data.py", LIBRARY.format(value="3.11"))
        self.put("include/pipelines/_lib/reading.py", (
            "from pathlib import Path\n\n\ndef text_of(name):\n"
            "    return (Path(__file__).parents[2] / 'components' / name).read_text()\n"
        ))  # fmt: skip
        self.put("include/components/shared/notes.txt", self.value())
        self.put("include/components/pack/__init__.py", "")
        self.put("include/components/pack/plain.py", f'VALUE = "{self.value()}"\n')
        self.put("include/components/pack/sub/__init__.py", "from ..plain import VALUE as ABOVE\n")
        self.put("include/components/pack/sub/deep.py", "from . import ABOVE\n\nVALUE = 'deep ' + ABOVE\n")
        self.put("include/components/unused.py", f'VALUE = "{self.value()}"\n')
        for name in ("loaded", "other"):
            self.put(f"include/components/{name}.yaml", LOADED.format(value=self.value()))
        self.link("include/components/linked.py", "pack/plain.py")
        for way in range(len(WAYS)):
            self.project(way)
        self.commit("start")

    # git

    def git(self, *words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.commits.append(self.git("rev-parse", "HEAD"))

    def grow(self, commits: int) -> None:
        """Makes the history that long; about one in eight is a merge of a branch of two commits."""
        self.start()
        # Each kind once, in an order made by chance, then whatever comes.
        self.coming = self.chance.sample(list(dict.fromkeys(EDITS)), len(set(EDITS)))
        while len(self.commits) < commits:
            if self.chance.random() < 0.12 and len(self.commits) + 4 <= commits:
                self._branch_and_merge()
            else:
                self._edit()

    def _branch_and_merge(self) -> None:
        self.git("checkout", "--quiet", "-b", "topic")
        self._edit()
        self._edit()
        self.git("checkout", "--quiet", "main")
        self._edit()
        # Where both sides changed a file, theirs is as good as ours.
        ran = subprocess.run(["git", "merge", "--quiet", "--no-edit", "-X", "theirs", "topic"], cwd=self.root,
                             capture_output=True, check=False)  # fmt: skip
        if ran.returncode:
            # A file that one side deleted stays deleted.
            for line in self.git("status", "--porcelain").splitlines():
                if line[:2] in ("UD", "DU", "UA", "AU", "DD", "UU", "AA"):
                    self.git("rm", "--quiet", "--force", "--", line[3:])
            self.git("commit", "--quiet", "--no-edit")
        self.commits.append(self.git("rev-parse", "HEAD"))
        self.git("branch", "--quiet", "-D", "topic")

    def _edit(self) -> None:
        edit = self.coming.pop() if self.coming else self.chance.choice(EDITS)
        edit(self)
        self.commit(edit.__name__)


def _any(history: History, *patterns: str) -> Path:
    found = sorted(path for pattern in patterns for path in history.root.glob(pattern) if path.is_file())
    return history.chance.choice([path for path in found if not path.is_symlink()])


def change_value(history: History) -> None:
    """Of a module, a text or a component."""
    path = _any(history, "include/components/**/*.py", "include/components/*.yaml", "include/components/**/*.txt",
                "include/pipelines/*/*.py", "include/pipelines/*/*.sql", "include/pipelines/*/sql/*.sql")  # fmt: skip
    text = path.read_text()
    at = text.find('"v')
    end = text.find('"', at + 1)
    changed = f'{text[:at]}"{history.value()}{text[end:]}' if at >= 0 else f"{text}{history.value()} = 1\n"
    if path.suffix in (".sql", ".txt"):
        changed = f"select {history.value()}\n"
    path.write_text(changed)


def change_comment(history: History) -> None:
    with _any(history, "include/**/*.py").open("a") as file:
        file.write(f"# {history.value()}\n")


def change_something_else(history: History) -> None:
    history.put(history.chance.choice(("README.md", "docs/a.md", "include/README.md")), history.value())


def change_library_image(history: History) -> None:
    history.put("include/pipelines/_lib/data.py", LIBRARY.format(value=f"3.{history.chance.randrange(9, 14)}"))


def change_caching(history: History) -> None:
    name = history.chance.choice(history.projects())
    caching = history.chance.choice(("true", "false"))
    history.put(f"include/projects/{name}.yaml", MANIFEST.format(name=name, caching=caching))


def rename_project(history: History) -> None:
    old, new = history.chance.choice(history.projects()), f"p{history.counter + 1}"
    history.counter += 1
    (history.root / f"include/projects/{old}.yaml").unlink()
    history.put(f"include/projects/{new}.yaml", MANIFEST.format(name=new, caching="false"))
    source = history.root / f"include/pipelines/{old}"
    if source.exists():
        source.rename(history.root / f"include/pipelines/{new}")


def delete_project(history: History) -> None:
    name = history.chance.choice(history.projects())
    (history.root / f"include/projects/{name}.yaml").unlink()
    shutil.rmtree(history.root / f"include/pipelines/{name}", ignore_errors=True)


def add_project(history: History) -> None:
    history.project(history.chance.randrange(len(WAYS)))


def delete_file(history: History) -> None:
    _any(history, "include/pipelines/*/*.*", "include/components/**/*.*").unlink()


def bring_back(history: History) -> None:
    """All shared files as they were in the beginning."""
    history.git("checkout", "--quiet", history.commits[0], "--", "include/components", "include/pipelines/_lib")


def module_to_package(history: History) -> None:
    module = history.root / "include/components/pack/plain.py"
    if module.is_file():
        text = module.read_text()
        module.unlink()
        history.put("include/components/pack/plain/__init__.py", text)
    else:
        shutil.rmtree(history.root / "include/components/pack/plain", ignore_errors=True)
        history.put("include/components/pack/plain.py", f'VALUE = "{history.value()}"\n')


def shadow(history: History) -> None:
    """A module of the project's own in the place of a shared one, or no more."""
    name = history.chance.choice(history.projects())
    own = history.root / f"include/pipelines/{name}" / history.chance.choice(("_lib.py", "components.py"))
    if own.exists():
        own.unlink()
    else:
        history.put(os.path.relpath(own, history.root), f'VALUE = "{history.value()}"\n')


def link_elsewhere(history: History) -> None:
    target = history.chance.choice(("pack/plain.py", "unused.py", "nowhere.py"))
    history.link("include/components/linked.py", target)


def move_component(history: History) -> None:
    """With the projects that take it, or without them."""
    old = history.chance.choice(("loaded.yaml", "other.yaml"))
    source = history.root / "include/components" / old
    if source.exists():
        new = f"{history.value()}.yaml"
        source.rename(source.with_name(new))
        if history.chance.random() < 0.5:
            for path in history.root.glob("include/pipelines/*/pipeline.py"):
                path.write_text(path.read_text().replace(old, new))
    else:
        history.put(f"include/components/{old}", LOADED.format(value=history.value()))


EDITS: list[Edit] = [
    *[change_value] * 6, change_comment, change_something_else, change_library_image, change_caching, rename_project,
    delete_project, add_project, add_project, delete_file, bring_back, module_to_package, shadow, link_elsewhere,
    move_component,
]  # fmt: skip
