"""The difference between what is wanted and what exists."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mlfleet.fleet.reading import Reading, Unread
from mlfleet.fleet.resources import MARKED, Found, Kind, Resource, digest_of
from mlfleet.fleet.wanted import Wanted


class Action(enum.StrEnum):
    """What is the matter with a thing.

    CREATE  it is wanted and does not exist
    CHANGE  a manifest wants it otherwise, or it is not ours yet
    DRIFT   somebody changed it by hand since it was applied, or started what nobody has declared
    ORPHAN  it is ours, and nobody wants it any more
    """

    CREATE = "create"
    CHANGE = "change"
    DRIFT = "drift"
    ORPHAN = "orphan"


@dataclass(frozen=True)
class Difference:
    """A setting, or a part of one like ``triggers[0].tag``, as it is and as it is wanted; plain JSON."""

    setting: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """One line of a plan; ``hint`` is for a person. ``retired`` is what `--prune` would take away."""

    action: Action
    kind: Kind
    name: str
    differences: tuple[Difference, ...] = ()
    hint: str = ""
    wanted: Resource | None = None
    found: Found | None = None

    @property
    def origin(self) -> str:
        """The file that asks for it, "" for what nobody asks for."""
        return self.wanted.origin if self.wanted else ""

    @property
    def retires(self) -> bool:
        """Whether only `--prune` does anything about it."""
        return self.wanted is None

    @property
    def left_to_people(self) -> bool:
        """Whether nothing but a person does anything about it."""
        return self.found is not None and self.found.hands_off


@dataclass(frozen=True)
class Plan:
    """``changes`` in the order in which they are shown; ``unread`` systems are not in it, nor is ``notes``' matter."""

    changes: tuple[Change, ...]
    unchanged: int
    unread: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()

    def count(self, action: Action) -> int:
        """How many changes are of one action."""
        return sum(change.action is action for change in self.changes)

    def told(self) -> str:
        """``2 to create, 1 to change, 0 drifted, 0 orphaned; 5 as they should be``."""
        told = ", ".join(f"{self.count(action)} {word}" for action, word in _WORDS.items())
        rest = f"; {len(self.unread)} could not be read" if self.unread else ""
        return f"{told}; {self.unchanged} as they should be{rest}"


_WORDS = {Action.CREATE: "to create", Action.CHANGE: "to change", Action.DRIFT: "drifted", Action.ORPHAN: "orphaned"}
_ORDER = {action: place for place, action in enumerate(Action)}


def make_plan(wanted: Wanted, reading: Reading, managed: Iterable[Kind]) -> Plan:
    """Compares; ``managed`` are the kinds of the systems that were asked."""
    kinds = set(managed) - {kind for unread in reading.unread for kind in unread.kinds}
    existing = {(found.kind, found.name): found for found in reading.found if not found.drift}
    asked = {(resource.kind, resource.name): resource for resource in wanted.resources if resource.kind in kinds}
    compared = [_compare(resource, existing.get(key)) for key, resource in asked.items()]
    changes = [change for change in compared if change is not None]
    unchanged = len(compared) - len(changes)
    changes += [
        Change(Action.ORPHAN, found.kind, found.name, found=found)
        for key, found in existing.items()
        if found.ours and key not in asked and found.settings.get("state") != "archived"
    ]
    changes += [
        Change(Action.DRIFT, found.kind, found.name, hint=found.drift, found=found)
        for found in reading.found
        if found.drift
    ]
    hinted = sorted(
        _with_hints(changes), key=lambda each: (_ORDER[each.action], list(Kind).index(each.kind), each.name)
    )
    return Plan(tuple(hinted), unchanged, reading.unread, wanted.notes)


def _compare(resource: Resource, found: Found | None) -> Change | None:
    if found is None:
        return Change(Action.CREATE, resource.kind, resource.name, wanted=resource)
    differences = tuple(
        difference
        for key, value in resource.settings.items()
        for difference in _differences(key, found.settings.get(key), value)
    )
    if not found.ours and resource.kind in MARKED:
        differences = (*differences, Difference("managed by mlfleet", False, True))
    if not differences:
        return None
    by_hand = found.ours and found.applied == digest_of(resource.settings)
    action = Action.DRIFT if by_hand else Action.CHANGE
    hint = "changed by hand since it was applied" if by_hand else ""
    return Change(action, resource.kind, resource.name, differences, hint, resource, found)


def _differences(path: str, before: Any, after: Any) -> Iterator[Difference]:
    """The smallest parts that differ; lists of texts and numbers are one part."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*after, *before)):
            yield from _differences(f"{path}.{key}", before.get(key), after.get(key))
    elif _of_mappings(before) and _of_mappings(after):
        for index in range(max(len(before), len(after))):
            old, new = (rows[index] if index < len(rows) else None for rows in (before, after))
            yield from _differences(f"{path}[{index}]", old, new)
    else:
        yield Difference(path, before, after)


def _of_mappings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _with_hints(changes: list[Change]) -> Iterator[Change]:
    """Each change; a name that was probably given up for another one says so on both sides."""
    orphans = [change for change in changes if change.action is Action.ORPHAN]
    renamed: dict[tuple[Kind, str], str] = {}
    for change in changes:
        if change.action is Action.ORPHAN:
            continue
        rest = [each for each in orphans if each.kind is change.kind and (each.kind, each.name) not in renamed]
        former = _former(change.wanted, rest) if change.action is Action.CREATE and change.wanted else None
        if former:
            renamed[former.kind, former.name] = change.name
            yield replace(change, hint=f"renamed from {former.name}? What that has stays under the old name")
        else:
            yield change
    for change in orphans:
        now = renamed.get((change.kind, change.name))
        yield replace(change, hint=f"renamed to {now}?") if now else change


def _former(resource: Resource, orphans: list[Change]) -> Change | None:
    """The orphan that a new thing probably was: of the same settings and part after the project, or of a like name."""
    if not orphans:
        return None
    tail = resource.name.partition(".")[2] or resource.name.partition("/")[2]
    same = [
        each for each in orphans
        if each.found and _telling(each.found.settings) and each.found.settings == resource.settings
        and tail == (each.name.partition(".")[2] or each.name.partition("/")[2])
    ]  # fmt: skip
    if same:
        return same[0]
    near = difflib.get_close_matches(resource.name, [each.name for each in orphans], n=1, cutoff=0.6)
    return next((each for each in orphans if near and each.name == near[0]), None)


def _telling(settings: Any) -> bool:
    """Whether settings say enough to know a thing again by them."""
    return bool(settings.get("description"))


def as_json(plan: Plan, environment: str) -> dict[str, Any]:
    """The plan for programs; its keys never change their meaning."""
    return {
        "environment": environment,
        "summary": {**{action.value: plan.count(action) for action in Action}, "unchanged": plan.unchanged},
        "changes": [
            {
                "action": change.action.value,
                "kind": change.kind.value,
                "name": change.name,
                "origin": change.origin,
                "hint": change.hint,
                "left_to_people": change.left_to_people,
                "differences": [
                    {"setting": each.setting, "before": each.before, "after": each.after} for each in change.differences
                ],
            }
            for change in plan.changes
        ],
        "unread": [{"system": unread.system, "error": str(unread.error)} for unread in plan.unread],
        "notes": list(plan.notes),
    }
