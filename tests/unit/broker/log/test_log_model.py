"""A log against a plain list: whatever is done to it, in whatever order, with whatever kind of restart in between."""

from __future__ import annotations

from random import Random

import pytest
from harness.fake_file_system import FakeFileSystem
from harness.log_builder import NOW_MS, content, new_log, offsets, reopened
from harness.record_batches import record_batch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from klamm.broker.log.log_config import LogConfig
from klamm.proto.errors import KafkaStorageError, OffsetOutOfRangeError
from klamm.proto.identifiers import LeaderEpoch, Offset
from klamm.proto.record_batch import parse_header

CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=120, segment_index_bytes=400, retention_ms=1000)


class LogMachine(RuleBasedStateMachine):
    """The model is the list of batches; a batch is (base offset, next offset, epoch, bytes)."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = FakeFileSystem()
        self.log = new_log(self.disk, CONFIG)
        self.disk.sync_folder("/")
        self.batches: list[tuple[int, int, int, bytes]] = []
        self.end = 0
        self.start = 0
        self.synced = 0
        self.cut = False  # and not flushed since: a power cut may bring the old tail back
        self.epoch = 0
        self.clock = 1_000

    def _note(self, base: int, count: int, data: bytes) -> None:
        self.batches.append((base, base + count, self.epoch, data))
        self.end = base + count

    @rule(count=st.integers(1, 4), size=st.integers(0, 150), new_epoch=st.booleans(), tick=st.integers(-50, 300))
    def append_as_leader(self, count: int, size: int, new_epoch: bool, tick: int) -> None:
        self.epoch += new_epoch
        self.clock += tick
        batch = record_batch([b"x" * (size // count)] * count, timestamps=max(self.clock, 0))
        if len(batch) > CONFIG.segment_bytes:
            return
        answer = self.log.append_as_leader(batch, leader_epoch=LeaderEpoch(self.epoch), now_ms=NOW_MS)
        assert (answer.base_offset, answer.last_offset) == (self.end, self.end + count - 1)
        self._note(self.end, count, bytes(batch))

    @rule(counts=st.lists(st.integers(1, 3), min_size=1, max_size=8), new_epoch=st.booleans())
    def append_as_follower(self, counts: list[int], new_epoch: bool) -> None:
        self.epoch += new_epoch
        run = b""
        for count in counts:
            batch = bytes(record_batch([b"y" * 40] * count, base_offset=self.end, leader_epoch=self.epoch))
            self._note(self.end, count, batch)
            run += batch
        self.log.append_as_follower(run)

    @rule(errors=st.sampled_from(["open", "pwrite", "truncate", "replace", "sync"]), skip=st.integers(0, 3))
    def append_on_a_bad_disk(self, errors: str, skip: int) -> None:
        self.epoch += 1
        self.disk.fail_next(errors, skip=skip)
        batch = record_batch([b"z" * 30], timestamps=max(self.clock, 0))
        try:
            self.log.append_as_leader(batch, leader_epoch=LeaderEpoch(self.epoch), now_ms=NOW_MS)
        except KafkaStorageError:
            assert self.log.log_end_offset == self.end
        else:
            self._note(self.end, 1, bytes(batch))
        self.disk.heal()
        if self.log.failure is not None:
            self.reopen_after_a_crash()

    @rule(fraction=st.floats(0, 1.2))
    def truncate(self, fraction: float) -> None:
        first = self.batches[0][0] if self.batches else self.end
        target = int(first + (self.end - first) * fraction)
        self.log.truncate_to(Offset(target))
        self.cut = True
        self.batches = [batch for batch in self.batches if batch[1] <= target]
        if target < self.end:
            self.end = self.batches[-1][1] if self.batches else min(target, first)
        self.start = min(self.start, self.end)
        self.synced = min(self.synced, self.end)

    @rule(offset=st.integers(0, 50))
    def start_over(self, offset: int) -> None:
        self.log.truncate_fully_and_start_at(Offset(offset))
        self.batches, self.start, self.end, self.synced = [], offset, offset, offset
        self.cut = True

    @rule(fraction=st.floats(0, 1))
    def advance_log_start(self, fraction: float) -> None:
        target = int(self.start + (self.end - self.start) * fraction)
        self.log.advance_log_start_to(Offset(target))
        self.start = max(self.start, target)

    @rule(ahead=st.integers(0, 5_000), behind=st.integers(0, 5))
    def retain(self, ahead: int, behind: int) -> None:
        high_watermark = max(self.end - behind, self.start)
        self.log.delete_old_segments(self.clock + ahead, Offset(high_watermark))
        assert self.start <= self.log.log_start_offset <= max(high_watermark, self.start)
        self.start = self.log.log_start_offset
        for path in self.log.take_deleted_files():
            self.disk.remove(path)
        first = self.log._segments.base_offset
        self.batches = [batch for batch in self.batches if batch[0] >= first]

    @rule()
    def flush(self) -> None:
        self.log._flusher.flush_now(self.log.log_end_offset)
        self.synced = self.log.recovery_point
        self.cut = False
        assert self.synced == self.end

    @rule()
    def reopen_after_a_clean_stop(self) -> None:
        self.log.close()
        self.log = reopened(
            self.disk, CONFIG, clean=True, recovery_point=self.end, log_start_offset=self.log.log_start_offset
        )
        self.synced = self.end
        self.cut = False

    @rule()
    def reopen_after_a_crash(self) -> None:
        point, start = self.log.recovery_point, self.log.log_start_offset
        self.disk.crash()
        self.log = reopened(self.disk, CONFIG, recovery_point=point, log_start_offset=start)

    @precondition(lambda self: self.synced > self.start and not self.cut)
    @rule(seed=st.integers(0, 2**32))
    def reopen_after_a_power_cut(self, seed: int) -> None:
        point, start = self.log.recovery_point, self.log.log_start_offset
        self.disk.power_cut(Random(seed))
        self.log = reopened(self.disk, CONFIG, recovery_point=point, log_start_offset=start)
        assert self.synced <= self.log.log_end_offset <= self.end
        self.end = self.log.log_end_offset
        self.batches = [batch for batch in self.batches if batch[1] <= self.end]

    @invariant()
    def the_log_is_the_list(self) -> None:
        log = self.log
        assert (log.log_start_offset, log.log_end_offset) == (self.start, self.end)
        visible = [batch for batch in self.batches if batch[1] > self.start]
        assert content(log) == b"".join(batch[3] for batch in visible)
        assert log.recovery_point <= self.end

    @invariant()
    def the_epochs_are_those_of_the_batches(self) -> None:
        for base, following, epoch, data in self.batches:
            assert parse_header(data).partition_leader_epoch == epoch
            if following > self.start:
                assert self.log.epoch_cache.epoch_for_offset(max(base, self.start)) == epoch
        entries = self.log.epoch_cache.entries
        assert not entries or entries[0].start_offset >= self.start

    @rule(data=st.data())
    def read_anywhere(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(max(self.start - 2, 0), self.end + 2))
        if not self.start <= offset <= self.end:
            with pytest.raises(OffsetOutOfRangeError):
                self.log.read(Offset(offset), max_bytes=100, end_offset=Offset(self.end))
            return
        end = data.draw(st.integers(self.start, self.end))
        got = self.log.read(Offset(offset), max_bytes=data.draw(st.integers(0, 2_000)), end_offset=Offset(end))
        expected = [batch for batch in self.batches if batch[1] > offset and batch[1] <= end]
        whole = b"".join(batch[3] for batch in expected)
        assert whole.startswith(got) and bool(got) == bool(expected)
        offsets(got)

    @rule(timestamp=st.integers(0, 5_000))
    def look_up_by_time(self, timestamp: int) -> None:
        expected = [
            (header.max_timestamp, max(batch[0], self.start))
            for batch in self.batches
            if batch[1] > self.start and (header := parse_header(batch[3])).max_timestamp >= timestamp
        ]
        assert self.log.offset_for_timestamp(timestamp) == (expected[0] if expected else None)

    def teardown(self) -> None:
        self.log.close()
        assert self.disk.open_count == 0


TestLogModel = LogMachine.TestCase
TestLogModel.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
