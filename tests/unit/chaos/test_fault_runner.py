"""What faults share: nodes that are in one hand at a time, cuts that add up, and faults whose end is noted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from chaos.fault_runner import FAULTS_AT_ONCE_MAX, Action, Arena, FaultRunner, Note, Passed
from chaos.nemesis import FaultKind, PlannedFault
from chaos.network import Way
from harness.history import Entry, Fault
from harness.waiting import wait_for
from klamm.deploy.errors import WaitTimeoutError
from klamm.deploy.layout import NodeSpec

SPECS = [NodeSpec("broker", number, "127.0.0.1", 0, Path("/")) for number in (1, 2, 3)]


class FakeNetwork:
    def __init__(self) -> None:
        self.cuts: list[frozenset[Way]] = []

    def set_cuts(self, ways: frozenset[Way]) -> None:
        self.cuts.append(ways)


def arena() -> Arena:
    cluster = SimpleNamespace(is_running=lambda _: True)
    return Arena(cast(Any, cluster), cast(Any, FakeNetwork()), cast(Any, None), lambda _: None)


def test_a_node_is_in_one_hand_at_a_time() -> None:
    hall = arena()
    with hall.claim([SPECS[0]]) as held:
        assert held
        assert hall.free(SPECS) == SPECS[1:]
        entered = threading.Event()

        def second() -> None:
            with hall.claim([SPECS[0]]) as held:
                assert held
                entered.set()

        thread = threading.Thread(target=second)
        thread.start()
        with hall.claim([SPECS[1]]) as other:
            assert other, "others are free"
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert hall.free(SPECS) == SPECS


def test_who_wants_all_nodes_gets_them_before_others_take_one_more() -> None:
    hall = arena()
    order: list[str] = []

    def all_of_them() -> None:
        with hall.claim(SPECS) as held:
            order.append("all" if held else "none")

    def one() -> None:
        with hall.claim([SPECS[2]]) as held:
            order.append("one" if held else "none")

    with hall.claim([SPECS[0]]):
        first = threading.Thread(target=all_of_them)
        first.start()
        wait_for(lambda: hall._waiting_for_all)
        second = threading.Thread(target=one)
        second.start()
    first.join(10)
    second.join(10)
    assert order == ["all", "one"]


def test_other_things_are_refused_at_once() -> None:
    hall = arena()
    with hall.claim_thing("disks") as held:
        assert held
        with hall.claim_thing("disks") as again:
            assert not again
        with hall.claim_thing("clock of broker-1") as other:
            assert other
    with hall.claim_thing("disks") as held:
        assert held


def test_cuts_of_several_faults_add_up() -> None:
    hall = arena()
    one, other = frozenset({Way("a", "b"), Way("b", "a")}), frozenset({Way("a", "b"), Way("a", "c")})
    hall.cut(1, one)
    hall.cut(2, other)
    hall.cut(1, frozenset())
    hall.cut(2, frozenset())
    assert cast(FakeNetwork, hall.network).cuts == [one, one | other, other, frozenset()]


def run(do: Action, faults: int = 1) -> tuple[FaultRunner, list[Fault]]:
    """Until all of so many faults are over."""
    written: list[Entry] = []
    plan = [PlannedFault(number, FaultKind.KILL_BROKER, 0.0, 0.0, number) for number in range(faults)]
    hall = arena()
    runner = FaultRunner(hall, plan, do, written.append)
    thread = threading.Thread(target=runner.run, args=(time.monotonic(), 60.0))
    thread.start()
    wait_for(lambda: runner.done.total() + runner.passed.total() + len(runner.trouble) >= faults)
    hall.ending.set()
    thread.join(10)
    return runner, [entry for entry in written if isinstance(entry, Fault)]


def acting(body: Callable[[Note], None]) -> Action:
    def do(_: Arena, __: PlannedFault, ___: Random, note: Note) -> None:
        body(note)

    return do


def test_a_fault_is_written_when_it_begins_and_when_it_ends() -> None:
    runner, (began, ended) = run(acting(lambda note: note("broker-1", "by chance")))
    assert (began.kind, began.target, began.detail, began.ended_ns) == (
        "kill -9 of a broker",
        "broker-1",
        "by chance",
        None,
    )
    assert ended.began_ns == began.began_ns and ended.ended_ns is not None and ended.ended_ns >= began.began_ns
    assert runner.done == {"kill -9 of a broker": 1} and not runner.passed and not runner.trouble


def test_a_fault_that_cannot_be_done_is_passed_over() -> None:
    def refuse(_: Note) -> None:
        raise Passed("nobody leads")

    runner, written = run(acting(refuse), faults=3)
    assert not written and not runner.done and not runner.trouble
    assert runner.passed == {"kill -9 of a broker": 3}


def test_there_are_never_too_many_faults_at_once() -> None:
    lock = threading.Lock()
    counts = {"now": 0, "most": 0}

    def last(note: Note) -> None:
        note("broker-1", "")
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts.values())
        threading.Event().wait(0.05)
        with lock:
            counts["now"] -= 1

    runner, _ = run(acting(last), faults=3 * FAULTS_AT_ONCE_MAX)
    assert runner.done.total() == 3 * FAULTS_AT_ONCE_MAX
    assert counts["most"] == FAULTS_AT_ONCE_MAX


def test_a_fault_that_does_not_heal_is_trouble() -> None:
    def fail(note: Note) -> None:
        note("broker-1", "")
        raise WaitTimeoutError("broker-1 is not unfenced")

    runner, written = run(acting(fail))
    (trouble,) = runner.trouble
    assert "broker-1 is not unfenced" in trouble
    assert "broker-1 is not unfenced" in written[-1].detail
    assert runner.done == {"kill -9 of a broker": 1}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_in_a_fault_is_trouble_too() -> None:
    def fail(_: Note) -> None:
        raise KeyError("broker-9")

    runner, _ = run(acting(fail))
    (trouble,) = runner.trouble
    assert "broke: KeyError" in trouble
