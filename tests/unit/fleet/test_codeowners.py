from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mlfleet.cli import main
from mlfleet.errors import ConfigError, ManifestError
from mlfleet.fleet.codeowners import BEGIN, END, FILE, ownership
from mlfleet.manifest.loading import Repository
from tests.unit.fleet.conftest import Git

MANIFEST = "kind: Project\nname: {name}\nowners: [{owners}]\nexperiments: [{{name: Default}}]\n"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    for folder in ("projects", "environments"):
        (tmp_path / "include" / folder).mkdir(parents=True)
    for name in ("dev", "prod"):
        (tmp_path / f"include/environments/{name}.yaml").write_text(f"name: {name}\n")
    return Repository(tmp_path)


def put(repository: Repository, name: str, *owners: str, file: str = "", more: str = "") -> None:
    listed = ", ".join(f'{{github: "{owner}"}}' for owner in owners)
    path = repository.projects / (file or f"{name}.yaml")
    path.write_text(MANIFEST.format(name=name, owners=listed) + more)


def block(repository: Repository) -> list[str]:
    lines = ownership(repository).wanted.splitlines()
    return lines[lines.index(BEGIN) + 1 : lines.index(END)]


def test_manifests_come_before_the_folders_and_users_beside_teams(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing", "jane", "@jane", file="old name.yml")
    put(repository, "cards", "@mona-lisa")
    assert block(repository) == [
        "/include/projects/cards.yaml @mona-lisa",
        "/include/projects/old\\ name.yml @acme/pricing @jane",
        "/include/pipelines/cards/ @mona-lisa",
        "/include/pipelines/prices/ @acme/pricing @jane",
    ]


def test_owners_of_one_environment_and_of_the_defaults_count(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.defaults.write_text("owners: [{github: '@acme/all'}]\n")
    put(repository, "prices", "@acme/pricing", more="targets: {prod: {owners: [{github: '@acme/sre'}]}}\n")
    (repository.projects / "cards.yaml").write_text("kind: Project\nname: cards\nexperiments: [{name: D}]\n")
    told = block(repository)
    assert told[-1] == "/include/pipelines/prices/ @acme/pricing @acme/sre"
    assert told[0] == "/include/projects/cards.yaml @acme/all"
    monkeypatch.setenv("MLFLEET_ENV", "prod")
    assert block(repository) == told


def test_rules_around_the_block_stay(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing")
    path = repository.root / FILE
    path.parent.mkdir()
    old = b"# BEGIN mlfleet: of an older time\r\n/old @x\r\n# END mlfleet\r\n"
    path.write_bytes(b"* @acme/platform\r\n\r\n" + old + b"/docs @jane")
    path.chmod(0o640)
    found = ownership(repository)
    found.write()
    text = path.read_bytes().decode()
    assert text.startswith("* @acme/platform\r\n\r\n# BEGIN mlfleet")
    assert text.endswith("# END mlfleet\r\n/docs @jane\r\n")
    assert "/old" not in text
    assert text.count("\n") == text.count("\r\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not ownership(repository).is_stale
    assert list(path.parent.iterdir()) == [path]


def test_a_file_without_markers_gets_the_block_at_its_end(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing")
    (repository.root / ".github").mkdir()
    (repository.root / FILE).write_text("* @acme/platform\n")
    assert ownership(repository).wanted.startswith(f"* @acme/platform\n\n{BEGIN}\n")


@pytest.mark.parametrize("text", [f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_markers_that_make_no_pair_are_left_to_a_person(repository: Repository, text: str) -> None:
    put(repository, "prices", "@acme/pricing")
    (repository.root / ".github").mkdir()
    (repository.root / FILE).write_text(text)
    with pytest.raises(ConfigError, match="do not make one pair"):
        ownership(repository)


@pytest.mark.parametrize(
    "owner", ["jane@example.com", "@acme/pricing/eu", "@-jane", "@a--b", f"@{'a' * 40}", "@jane doe"]
)
def test_who_is_no_user_and_no_team(repository: Repository, owner: str) -> None:
    put(repository, "prices", owner)
    with pytest.raises(ManifestError, match=r"include/projects/prices.yaml:3:.* MF012"):
        ownership(repository)


def test_a_manifest_with_other_errors_keeps_its_owners(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing", more="schedule: {cron: never}\n")
    assert block(repository)[-1] == "/include/pipelines/prices/ @acme/pricing"
    (repository.projects / "prices.yaml").write_text("name: [\n")
    with pytest.raises(ManifestError, match="MF002"):
        ownership(repository)


def test_a_name_that_two_have_is_refused(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing")
    put(repository, "prices", "@acme/cards", file="copy.yaml")
    with pytest.raises(ManifestError, match="MF015"):
        ownership(repository)


def test_a_file_name_that_no_pattern_can_say(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing", file="prices[1].yaml")
    with pytest.raises(ManifestError, match="rename it"):
        ownership(repository)


def test_owners_elsewhere_would_be_shadowed(repository: Repository) -> None:
    put(repository, "prices", "@acme/pricing")
    (repository.root / "CODEOWNERS").write_text("* @acme/platform\n")
    with pytest.raises(ConfigError, match="git mv CODEOWNERS"):
        ownership(repository)


def test_a_deployment_below_the_top_of_its_git_repository(tmp_path: Path, git: Git) -> None:
    root = tmp_path / "ml" / "fleet"
    (root / "include" / "projects").mkdir(parents=True)
    put(Repository(root), "prices", "@acme/pricing")
    found = ownership(Repository(root))
    assert found.path == tmp_path / FILE
    assert "/ml/fleet/include/pipelines/prices/ @acme/pricing\n" in found.wanted


def test_what_cannot_be_written_is_said_and_leaves_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(repository, "prices", "@acme/pricing")
    found = ownership(repository)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlfleet.fleet.codeowners.os.replace", full)
    with pytest.raises(ConfigError, match="No space left"):
        found.write()
    assert list(found.path.parent.iterdir()) == []


def test_the_command_of_this_repository_has_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(Path(__file__).parents[3]), "codeowners", "--check"]) == 0
    assert "up to date" in capsys.readouterr().out
