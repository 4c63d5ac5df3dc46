"""Rule 17: at most once per (producer id, epoch, sequence), and what that takes."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c
from harness.fake_file_system import FakeFileSystem
from harness.log_builder import append, new_log, reopened
from harness.record_batches import record_batch
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.log.errors import CorruptFileError
from klamm.broker.log.producer_state import ANY_PRODUCER, NO_PRODUCER, ProducerStates
from klamm.proto.errors import InvalidProducerEpochError, InvalidRecordError, OutOfOrderSequenceNumberError
from klamm.proto.identifiers import LeaderEpoch, Offset
from klamm.proto.record_batch import TRANSACTIONAL_FLAG, RecordBatchHeader, parse_header

LAST = 2**31 - 1


def header(
    sequence: int, count: int = 1, *, epoch: int = 0, producer_id: int = 7, attributes: int = 0
) -> RecordBatchHeader:
    plain = parse_header(record_batch([b"v"] * count, producer_id=producer_id, producer_epoch=epoch, base_sequence=0))
    return plain._replace(base_sequence=sequence, attributes=attributes)


class States:
    """Producer state with a log that only counts."""

    def __init__(self) -> None:
        self.states = ProducerStates()
        self.end = 0

    def produce(
        self, sequence: int, count: int = 1, *, epoch: int = 0, producer_id: int = 7, leader_epoch: int = 1
    ) -> int:
        """The base offset that the producer is told."""
        batch = header(sequence, count, epoch=epoch, producer_id=producer_id)
        duplicate = self.states.check(batch, LeaderEpoch(leader_epoch))
        if duplicate is not None:
            return duplicate.first_offset
        base, self.end = self.end, self.end + count
        self.states.record(batch, base, 1000)
        return base


@pytest.fixture
def states() -> States:
    return States()


def test_rule_17_a_duplicate_of_the_last_five_gets_its_first_offset(states: States) -> None:
    given_offsets = [states.produce(number * 2, 2) for number in range(7)]
    assert given_offsets == [0, 2, 4, 6, 8, 10, 12]
    for number in range(2, 7):
        assert states.produce(number * 2, 2) == number * 2
    with pytest.raises(OutOfOrderSequenceNumberError):  # the sixth last is too old to be told from an error
        states.produce(2, 2)
    with pytest.raises(OutOfOrderSequenceNumberError):  # part of a batch is not that batch
        states.produce(13, 1)
    assert states.end == 14


def test_rule_17_a_gap_is_an_error(states: States) -> None:
    states.produce(0)
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.produce(2)
    assert states.produce(1) == 1


def test_rule_17_an_older_epoch_is_fenced(states: States) -> None:
    states.produce(0, epoch=4)
    with pytest.raises(InvalidProducerEpochError):
        states.produce(1, epoch=3)
    with pytest.raises(InvalidProducerEpochError):
        states.produce(0, epoch=3)


def test_rule_17_a_new_epoch_begins_at_zero(states: States) -> None:
    states.produce(0)
    states.produce(1)
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.produce(2, epoch=1)
    assert states.produce(0, epoch=1) == 2
    assert states.produce(0, epoch=1) == 2


def test_rule_17_sequences_wrap(states: States) -> None:
    states.produce(LAST - 1, 3, leader_epoch=0)  # LAST - 1, LAST, 0
    assert states.produce(1) == 3
    assert states.produce(LAST - 1, 3) == 0
    other = States()
    other.produce(LAST, leader_epoch=0)
    assert other.produce(0) == 1


def test_rule_17_a_producer_that_was_never_here_begins_at_zero_under_a_later_leader(states: States) -> None:
    """What it sent before went to an earlier leader and is lost; an ack of this batch would tell it otherwise."""
    with pytest.raises(OutOfOrderSequenceNumberError, match=r"producer 7 .* sequence 3 .* never wrote"):
        states.produce(3)
    assert states.produce(0, epoch=2) == 0
    assert states.produce(1, epoch=2) == 1
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.produce(1, producer_id=8)


def test_rule_17_a_first_leader_takes_an_unknown_producer_anywhere(states: States) -> None:
    """As Kafka does: a topic that is made anew under a living producer."""
    assert states.produce(55, epoch=3, leader_epoch=0) == 0


def test_rule_17_one_that_may_have_been_forgotten_may_begin_anywhere(states: States) -> None:
    states.produce(0, producer_id=20)
    states.produce(0, producer_id=30)
    for now in (0, 1000):
        states.states.expire(now, 1000)
    states.produce(0, producer_id=10)
    for now in (2000, 3000):
        states.states.expire(now, 1000)
    assert states.states.forgotten_up_to == 30
    assert states.produce(5, producer_id=30) == 3
    assert states.produce(6, producer_id=29) == 4  # whether it was here is not known any more
    with pytest.raises(OutOfOrderSequenceNumberError):
        states.produce(1, producer_id=31)


@pytest.mark.parametrize(("start", "mark"), [(0, NO_PRODUCER), (1, ANY_PRODUCER)])
def test_rule_17_a_log_that_begins_anew_past_zero_may_lack_any_producer(states: States, start: int, mark: int) -> None:
    assert ProducerStates(start).forgotten_up_to == mark
    states.produce(0)
    states.states.clear(Offset(start))
    assert (len(states.states), states.states.forgotten_up_to) == (0, mark)


def test_a_batch_without_a_sequence_is_refused(states: States) -> None:
    with pytest.raises(InvalidRecordError):
        states.produce(-1)


def test_what_a_follower_records_is_never_refused() -> None:
    states = ProducerStates()
    for offset, (sequence, epoch) in enumerate([(0, 5), (9, 5), (3, 2), (0, 6)]):
        states.record(header(sequence, epoch=epoch), offset, 1000)
    entry = states.get(7)
    assert entry is not None and entry.epoch == 6 and len(entry.batches) == 1


def test_rule_28_idle_producers_expire_by_the_monotonic_clock(states: States) -> None:
    states.produce(0)
    assert states.states.expire(0, 1000) == 0
    assert states.states.expire(999, 1000) == 0
    states.produce(1)
    assert states.states.expire(5000, 1000) == 0  # seen since the last look
    assert states.states.expire(6000, 1000) == 1
    assert (len(states.states), states.states.forgotten_up_to) == (0, 7)


def test_an_open_transaction_keeps_its_producer() -> None:
    states = ProducerStates()
    states.record(header(0, attributes=TRANSACTIONAL_FLAG), 0, 1000)
    for now in (0, 10_000):
        assert states.expire(now, 1000) == 0
    entry = states.get(7)
    assert entry is not None and entry.transaction_start == 0


def test_the_snapshot_is_kafkas(states: States) -> None:
    states.produce(3, 2, leader_epoch=0)
    data = states.states.encode()
    body = struct.pack(">iqhiqiqiq", 1, 7, 0, 4, 1, 1, 1000, -1, -1)
    assert data[6:].startswith(body)
    assert data[:6] == struct.pack(">hI", 1, crc32c(data[6:]))
    states.produce(5, leader_epoch=0)
    # The earlier batch follows behind Kafka's entries, where its reader does not look.
    assert states.states.encode()[6:].startswith(struct.pack(">iqhiqiqiq", 1, 7, 0, 5, 2, 0, 1000, -1, -1))


def test_rule_17_a_snapshot_says_whom_it_may_lack_and_one_of_kafkas_may_lack_any(states: States) -> None:
    states.produce(0)
    states.produce(1)
    for mark in (NO_PRODUCER, 12, ANY_PRODUCER):
        states.states.forgotten_up_to = mark
        decoded = ProducerStates.decode(states.states.encode(), Offset(0))
        assert decoded.forgotten_up_to == mark
        assert list(decoded) == [7]
    body = struct.pack(">iqhiqiqiq", 1, 7, 0, 4, 1, 1, 1000, -1, -1)
    older = ProducerStates.decode(struct.pack(">hI", 1, crc32c(body)) + body, Offset(0))
    assert older.forgotten_up_to == ANY_PRODUCER
    assert older.check(header(9, producer_id=8), LeaderEpoch(5)) is None


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, LAST), st.integers(1, 4), st.booleans())),
    st.data(),
)
def test_snapshots_come_back_and_damage_is_noticed(
    batches: list[tuple[int, int, int, int, bool]], data: st.DataObject
) -> None:
    states = ProducerStates()
    offset = 0
    for producer, epoch, sequence, count, transactional in batches:
        attributes = TRANSACTIONAL_FLAG if transactional else 0
        states.record(header(sequence, count, epoch=epoch, producer_id=producer, attributes=attributes), offset, offset)
        offset += count
    encoded = states.encode()
    decoded = ProducerStates.decode(encoded, Offset(offset))
    assert decoded.encode() == encoded and decoded.end_offset == offset
    assert [decoded.get(each).batches for each in decoded] == [states.get(each).batches for each in states]  # type: ignore[union-attr]
    position = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(CorruptFileError):
        ProducerStates.decode(encoded[:position], Offset(0))
    damaged = bytearray(encoded)
    damaged[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptFileError):
        ProducerStates.decode(bytes(damaged), Offset(0))


@pytest.mark.parametrize("clean", [True, False])
def test_rule_17_all_five_are_known_after_a_restart(clean: bool) -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    for number in range(30):
        append(log, b"%d" % number, producer_id=4, base_sequence=number)
    if clean:
        log.close()
    again = reopened(disk, clean=clean, recovery_point=log.log_end_offset if clean else 0)
    for number in range(25, 30):
        answer = append(again, b"%d" % number, producer_id=4, base_sequence=number)
        assert (answer.base_offset, answer.duplicate) == (number, True)
    with pytest.raises(OutOfOrderSequenceNumberError):
        append(again, b"gap", producer_id=4, base_sequence=31)
    assert append(again, b"next", producer_id=4, base_sequence=30).base_offset == 30


def test_rule_17_truncation_takes_the_state_back() -> None:
    log = new_log(FakeFileSystem())
    for number in range(30):
        append(log, b"%d" % number, producer_id=4, base_sequence=number)
    log.truncate_to(Offset(12))
    answer = append(log, b"11", producer_id=4, base_sequence=11)
    assert (answer.base_offset, answer.duplicate) == (11, True)
    assert append(log, b"12", producer_id=4, base_sequence=12).base_offset == 12
    log.truncate_fully_and_start_at(Offset(100))
    assert append(log, b"any", epoch=1, producer_id=4, base_sequence=77).base_offset == 100


def test_rule_17_retention_forgets_no_producer() -> None:
    log = new_log(FakeFileSystem())
    for number in range(30):
        append(log, b"%d" % number, producer_id=number // 10, base_sequence=number % 10, timestamp=number)
    assert log.delete_old_segments(10**15, Offset(30)) > 3
    assert log.log_start_offset == 30
    with pytest.raises(OutOfOrderSequenceNumberError):
        append(log, b"gap", producer_id=0, base_sequence=11)
    log.close()


def test_rule_17_a_producer_whose_batches_were_all_cut_off_begins_at_zero() -> None:
    log = new_log(FakeFileSystem())
    for number in range(20):
        append(log, b"%d" % number, producer_id=number // 10, base_sequence=number % 10)
    for end in (10, 0):
        log.truncate_to(Offset(end))
        with pytest.raises(OutOfOrderSequenceNumberError):
            append(log, b"next", epoch=1, producer_id=end // 10, base_sequence=10)
    assert append(log, b"first", epoch=1, producer_id=1, base_sequence=0).base_offset == 0


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("snapshots", [True, False])
def test_rule_17_a_restart_knows_who_was_never_here(clean: bool, snapshots: bool) -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    for number in range(30):
        append(log, b"%d" % number, producer_id=4, base_sequence=number)
    if clean:
        log.close()
    if not snapshots:
        _remove_snapshots(disk)
    again = reopened(disk, clean=clean, recovery_point=30 if clean else 15)
    with pytest.raises(OutOfOrderSequenceNumberError):
        append(again, b"lost", epoch=1, producer_id=5, base_sequence=1)
    assert append(again, b"first", epoch=1, producer_id=5, base_sequence=0).base_offset == 30


@pytest.mark.parametrize("snapshots", [True, False])
def test_rule_17_without_a_snapshot_what_retention_took_may_have_held_any_producer(snapshots: bool) -> None:
    disk = FakeFileSystem()
    log = new_log(disk)
    for number in range(30):
        append(log, b"%d" % number, producer_id=4, base_sequence=number)
    log.delete_old_segments(10**15, Offset(20))
    assert log.segments.base_offset > 0
    log.close()
    if not snapshots:
        _remove_snapshots(disk)
    again = reopened(disk, clean=True)
    assert again.producer_states.forgotten_up_to == (NO_PRODUCER if snapshots else ANY_PRODUCER)


def _remove_snapshots(disk: FakeFileSystem) -> None:
    found = [path for path in disk.files if path.endswith(".snapshot")]
    assert found
    for path in found:
        disk.remove(path)
