"""The decision whether a run may change production. Pure: facts in, verdict out; knows no Airflow and no network.

A guard that can't see what it needs says no: releasing by mistake costs more than asking again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlfleet.manifest.naming import AUTO, NEVER, NEWER

BACKFILL = "backfill"


@dataclass(frozen=True)
class Facts:
    """What the decision is made from.

    ``run_type``    of the DAG run: "scheduled", "manual", "backfill", "asset_triggered", ...; a run that a backfill
                    processes again has become a "backfill" too (airflow.md 5)
    ``evaluated``   whether the project has an evaluation; if not, ``evaluation`` is ignored
    ``evaluation``  what the evaluation task handed on: ``{"passed", "results"}``
    ``asked``       what the person who started the run wants: "auto" or "never"
    ``backfills``   what a backfill may release: "never" anything, or "newer" data than was ever released
    """

    run_type: str
    evaluated: bool
    evaluation: Mapping[str, Any] | None = None
    asked: str = AUTO
    backfills: str = NEVER


@dataclass(frozen=True)
class Verdict:
    """``guard`` is the rule that said no, "" for a yes; ``reason`` a sentence for people."""

    release: bool
    reason: str
    guard: str = ""

    def as_json(self) -> dict[str, Any]:
        """What is left in XCom under the key ``decision``."""
        return {"released": self.release, "reason": self.reason, "guard": self.guard}


def decide(facts: Facts) -> Verdict:
    """The first guard that says no, else yes. Order: what people mean by "never" comes first."""
    for name, guard in GUARDS.items():
        problem = guard(facts)
        if problem:
            return Verdict(False, problem, name)
    return Verdict(True, "the evaluation passed" if facts.evaluated else "the project has no evaluation")


def decide_on_improvement(
    results: Sequence[Mapping[str, Any]], live: Mapping[str, Mapping[str, float]], live_name: str, wanted: float
) -> Verdict:
    """Whether every experiment is better than its live model by the share ``wanted`` of the live model's metric.

    ``results``  of the evaluation; ``live`` experiment -> metric -> value. An experiment without a live value is new,
    and has nothing to be better than.
    """
    told: list[str] = []
    failed: list[str] = []
    for result in results:
        before = live.get(str(result["experiment"]), {}).get(label_name(str(result["metric"])))
        if before is None:
            told.append(f"{result['experiment']}: {live_name} has no {result['metric']} of it to be better than")
            continue
        # Rounded as the label is: the same model again is no change.
        value = float(f"{result['value']:.10g}")
        gained = before - value if result["direction"] == "min" else value - before
        better = gained >= wanted * abs(before)
        (told if better else failed).append(
            f"{result['experiment']}: {result['metric']} is {value:g}, that of {live_name} is {before:g}"
            + ("" if better else f", asked for: {wanted:.4g} of it better")
        )
    return Verdict(not failed, "; ".join(failed or told), "improvement" if failed else "")


def label_name(metric: str) -> str:
    """A metric's name as image labels have it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", metric)


def _not_unwanted(facts: Facts) -> str | None:
    if facts.asked == NEVER:
        return "whoever started this run asked for no release"
    return None if facts.asked == AUTO else f"nobody knows what release: {facts.asked} means"


def decide_on_age(end: datetime, released: datetime | None, whose: str) -> Verdict:
    """Whether data up to ``end`` is newer than that of ``whose``; ``released`` is where that ends, None if unknown."""
    if released is None:
        return Verdict(
            False, f"this run is a backfill, and nobody knows how far the data of {whose} reaches", "backfill"
        )
    told = f"its data ends {end.isoformat()}, that of {whose} {released.isoformat()}"
    if end > released:
        return Verdict(True, f"this run is a backfill of newer data: {told}")
    return Verdict(False, f"this run is a backfill of data that is not newer: {told}", "backfill")


def _not_a_backfill(facts: Facts) -> str | None:
    if facts.run_type == BACKFILL and facts.backfills != NEWER:
        return "this run is a backfill, and a backfill is never released"
    return None if facts.run_type else "the type of this run is not known"


def _evaluation_passed(facts: Facts) -> str | None:
    if not facts.evaluated:
        return None
    if not isinstance(facts.evaluation, Mapping) or not isinstance(facts.evaluation.get("passed"), bool):
        return "the evaluation handed on no verdict"
    if facts.evaluation["passed"]:
        return None
    failed = [_sentence(result) for result in facts.evaluation.get("results") or () if not result.get("passed")]
    return "the evaluation did not pass" + (f": {'; '.join(failed)}" if failed else ", it has no results")


def _sentence(result: Mapping[str, Any]) -> str:
    return f"{result.get('experiment') or '?'}: {result.get('reason') or 'no reason given'}"


GUARDS: Mapping[str, Callable[[Facts], str | None]] = {
    "asked": _not_unwanted,
    "backfill": _not_a_backfill,
    "evaluation": _evaluation_passed,
}
