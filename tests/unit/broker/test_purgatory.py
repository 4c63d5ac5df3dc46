"""Who waits, for what, and for how long: on a clock that is a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.purgatory import Deadlines, FetchQueue, ProduceQueue, Waiting, WaitingFetch, WaitingProduce
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import Offset


def test_deadlines_come_in_time_and_never_early() -> None:
    deadlines: Deadlines[Waiting] = Deadlines()
    first, second, third = Waiting(), Waiting(), Waiting()
    deadlines.add(first, 1_003)
    deadlines.add(second, 1_500)
    deadlines.add(third, 1_003)
    deadlines.discard(third)
    assert deadlines.next_ms() == 1_010
    assert deadlines.expired(1_009) == []
    assert deadlines.expired(1_010) == [first]
    deadlines.discard(second)
    assert deadlines.next_ms() is None
    assert deadlines.expired(10_000) == []


@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=60), st.lists(st.integers(0, 600), max_size=20))
def test_each_deadline_expires_once_unless_discarded(entries: list[tuple[int, bool]], looks: list[int]) -> None:
    deadlines: Deadlines[Waiting] = Deadlines()
    waiting = {Waiting(): (due, kept) for due, kept in entries}
    for each, (due, _) in waiting.items():
        deadlines.add(each, due)
    for each, (_, kept) in waiting.items():
        if not kept:
            deadlines.discard(each)
    seen: list[Waiting] = []
    for now in [*sorted(looks), 1_000]:
        out = deadlines.expired(now)
        assert all(waiting[each][0] <= now for each in out)
        seen += out
    assert len(set(seen)) == len(seen) == sum(kept for _, kept in waiting.values())
    assert len(deadlines) == 0


class Done:
    """Counts completions."""

    def __init__(self) -> None:
        self.produces: list[list[ErrorCode | None]] = []
        self.fetches = 0

    def produce(self, waiting: WaitingProduce) -> None:
        self.produces.append(waiting.errors)

    def fetch(self, _: WaitingFetch) -> None:
        self.fetches += 1


def test_a_produce_is_done_once_all_its_partitions_are() -> None:
    done, one, other = Done(), ProduceQueue(), ProduceQueue()
    waiting = WaitingProduce(2, done.produce)
    one.add(Offset(10), waiting, 0)
    other.add(Offset(5), waiting, 1)
    one.high_watermark_advanced(Offset(9))
    other.high_watermark_advanced(Offset(5))
    assert not done.produces
    one.high_watermark_advanced(Offset(12))
    assert done.produces == [[ErrorCode.NONE, ErrorCode.NONE]]
    one.decide_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert len(done.produces) == 1 and len(one) == 0


def test_a_duplicate_waits_for_its_own_lower_offset() -> None:
    done, queue = Done(), ProduceQueue()
    for offset in (10, 20, 5):
        queue.add(Offset(offset), WaitingProduce(1, done.produce), 0)
    queue.high_watermark_advanced(Offset(5))
    assert len(done.produces) == 1
    queue.high_watermark_advanced(Offset(10))
    assert len(done.produces) == 2


def test_rule_16_what_times_out_is_unknown_and_what_was_decided_stays() -> None:
    done, queue = Done(), ProduceQueue()
    waiting = WaitingProduce(2, done.produce)
    queue.add(Offset(5), waiting, 0)
    queue.add(Offset(9), waiting, 1)
    queue.high_watermark_advanced(Offset(5))
    waiting.time_out()
    assert done.produces == [[ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT]]
    queue.high_watermark_advanced(Offset(9))
    assert done.produces == [[ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT]]


def test_leadership_lost_decides_all() -> None:
    done, queue = Done(), ProduceQueue()
    for offset in (3, 1, 2):
        queue.add(Offset(offset), WaitingProduce(1, done.produce), 0)
    queue.decide_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert done.produces == [[ErrorCode.NOT_LEADER_OR_FOLLOWER]] * 3


@pytest.mark.parametrize(("sizes", "finished_after"), [([100], 1), ([40, 40, 40], 3), ([99, 1], 2)])
def test_a_fetch_counts_bytes_over_its_partitions(sizes: list[int], finished_after: int) -> None:
    done = Done()
    queues = [FetchQueue(), FetchQueue()]
    queues[0].committed(1_000)  # before it came: not counted
    waiting = WaitingFetch(100, done.fetch)
    for queue in queues:
        waiting.wait_on(queue)
    for number, size in enumerate(sizes, 1):
        queues[number % 2].committed(size)
        assert done.fetches == (1 if number >= finished_after else 0)
    assert not queues[0].fetches and not queues[1].fetches


def test_a_fetch_finishes_once() -> None:
    done, queue = Done(), FetchQueue()
    waiting = WaitingFetch(1, done.fetch)
    waiting.wait_on(queue)
    queue.finish_all()
    waiting.finish()
    queue.committed(10)
    assert done.fetches == 1
