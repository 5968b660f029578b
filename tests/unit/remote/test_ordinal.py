from __future__ import annotations

from mlfleet.remote.ordinal import enter
from tests.support.remote import MemoryStore


def test_the_first_time() -> None:
    store = MemoryStore()
    record = enter(store, 1, "spec", now=5.0)
    assert (record.n, record.generation, record.spec_hash, record.attempted_at) == (1, 1, "spec", 5.0)
    assert store.record == record


def test_a_retry_keeps_number_and_time() -> None:
    store = MemoryStore()
    first = enter(store, 1, "spec", now=5.0)
    assert enter(store, 1, "spec", now=9.0) == first


def test_a_clear_and_a_changed_content_take_the_next_number() -> None:
    store = MemoryStore()
    told: list[str] = []
    first = enter(store, 1, "spec", now=1.0)
    cleared = enter(store, 2, "spec", now=2.0, tell=lambda decision: told.append(decision.kind))
    changed = enter(store, 2, "other", now=3.0, tell=lambda decision: told.append(decision.kind))
    assert [record.n for record in (first, cleared, changed)] == [1, 2, 3]
    assert {record.incarnation for record in (first, cleared, changed)} == {first.incarnation}
    assert changed.attempted_at == 3.0
    assert told == ["cleared", "spec_changed"]


def test_a_lost_record_is_new_work() -> None:
    assert enter(MemoryStore(), 1, "spec").incarnation != enter(MemoryStore(), 1, "spec").incarnation
