from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mlfleet.clients.kfp import PipelineVersion
from mlfleet.fleet.pruning import Rule, old_versions
from mlfleet.manifest.pipeline_versions import version_name

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def version(branch: str, number: int, days: float | None, fleet: str = "mlfleet") -> PipelineVersion:
    created = None if days is None else NOW - timedelta(days=days)
    name = version_name(branch, f"{number:012x}")
    return PipelineVersion("p", f"{branch}{number}", name, created, {}, f"{fleet}: branch {branch}, commit {number}")


def left(versions: list[PipelineVersion], keep: int = 1, alive: set[str] | None = None, used: str = "") -> list[str]:
    rule = Rule(timedelta(days=30), keep, NOW, alive=None if alive is None else frozenset(alive))
    old = old_versions(versions, used.split(), rule)
    return [each.version_id for each in versions if each not in old]


def test_age_and_number_must_both_be_over() -> None:
    versions = [version("a", n, days) for n, days in ((5, 1), (4, 29), (3, 31), (2, 40), (1, 50))]
    assert left(versions) == ["a5", "a4"]
    assert left(versions, keep=4) == ["a5", "a4", "a3", "a2"]
    assert left(versions, used="a1 a3") == ["a5", "a4", "a3", "a1"]


def test_the_newest_of_a_pipeline_stays_whatever_it_is() -> None:
    assert left([version("gone", 1, 99)], keep=0, alive=set()) == ["gone1"]
    assert left([version("gone", 2, 99), version("gone", 1, 100)], keep=5, alive={"main"}) == ["gone2"]


def test_each_branch_counts_for_itself() -> None:
    versions = [version(branch, n, 40 + n) for n in (2, 1) for branch in ("a", "b")]
    assert left(versions) == ["a2", "b2"]
    assert left(versions, alive={"b"}) == ["a2", "b2"]
    assert left(versions[1:], alive={"b"}) == ["b2"]


def test_what_is_not_ours_or_has_no_age_stays() -> None:
    others = [
        version("a", 4, 99), version("a", 3, None), version("a", 2, 99, fleet="other"),
        PipelineVersion("p", "hand", "by-hand", NOW - timedelta(days=99)),
        PipelineVersion("p", "alike", version_name("a", "0" * 12), NOW - timedelta(days=99), {}, "by hand"),
    ]  # fmt: skip
    assert left(others) == ["a4", "a3", "a2", "hand", "alike"]
