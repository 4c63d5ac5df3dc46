"""What Consumer and AsyncConsumer have in common: all that needs no waiting, and records held back for iterators."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping

from ..proto.errors import IllegalStateError, KafkaError, WakeupError
from ..proto.identifiers import TopicPartition
from .config import ConsumerConfig
from .consumer_core import ConsumerCore, Polled
from .consumer_group import ConsumerGroup, offsets_given
from .positions import EARLIEST, LATEST, PartitionPosition
from .structs import (
    ConsumerGroupMetadata,
    ConsumerRebalanceListener,
    ConsumerRecord,
    OffsetAndMetadata,
    OffsetAndTimestamp,
)

Partition = TopicPartition | tuple[str, int]
GivenOffsets = Mapping[TopicPartition, OffsetAndMetadata | int]


class ConsumerBase:
    """What needs no waiting and is the same for both."""

    _config: ConsumerConfig
    _core: ConsumerCore | None

    def _of_core(self) -> ConsumerCore:
        core = self._core
        if core is None:
            raise IllegalStateError("the consumer is not started: await start(), or use it in async with")
        if core.closed:
            raise IllegalStateError("the consumer is closed")
        return core

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Reads these partitions, and no others, from now on."""
        self._of_core().assign(partitions)

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read now."""
        return set(self._of_core().positions)

    def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Reads these topics, or all whose name begins as the regular expression says, and no others, from now on.

        In a group the partitions come with the next calls of `poll`; the listener is told of each that comes and goes.

        :raises IllegalStateError: partitions were assigned by hand. :raises KafkaError: an argument is wrong.
        """
        core = self._of_core()
        names = [topics] if isinstance(topics, str) else list(topics)
        if bool(names) == (pattern is not None):
            raise KafkaError("subscribe: give topics or a pattern, one of them")
        for name in names:
            if not isinstance(name, str) or not name:
                raise KafkaError(f"subscribe: {name!r} is not a topic's name")
        if listener is not None and not all(
            callable(getattr(listener, method, None)) for method in ("on_partitions_revoked", "on_partitions_assigned")
        ):
            raise KafkaError(f"subscribe: {listener!r} is not a ConsumerRebalanceListener")
        try:
            compiled = None if pattern is None else re.compile(pattern)
        except re.error as error:
            raise KafkaError(f"subscribe: pattern {pattern!r} is not a regular expression: {error}") from None
        core.subscribe(names, compiled, listener)

    def subscription(self) -> set[str]:
        """The topics subscribed to; under a pattern, those that match now."""
        return set(self._of_core().subscribed)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """The membership as it is; without a group, one that names none."""
        group = self._of_core().group
        return ConsumerGroupMetadata(None) if group is None else group.member.metadata

    consumer_group_metadata = group_metadata

    def wakeup(self) -> None:
        """From any thread: ends the `poll` under way, or the next one, with a WakeupError."""
        core = self._of_core()
        core.woken = True
        self._on_wakeup()

    def _on_wakeup(self) -> None:
        raise NotImplementedError

    def _check_wakeup(self, core: ConsumerCore) -> None:
        if core.woken:
            core.woken = False
            raise WakeupError("wakeup() was called")

    def seek(self, partition: Partition, offset: int) -> None:
        """Goes on at `offset`. :raises IllegalStateError: the partition is not assigned."""
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise KafkaError(f"seek: offset {offset!r} is not a whole number from 0 on")
        self._of_core().seek(partition, offset)

    def seek_to_beginning(self, *partitions: Partition) -> None:
        """Goes to the earliest offset of these partitions, or of all that are assigned."""
        core = self._of_core()
        for partition in partitions or list(core.positions):
            core.seek(partition, None, EARLIEST)

    def seek_to_end(self, *partitions: Partition) -> None:
        """Goes to the end of these partitions, or of all that are assigned."""
        core = self._of_core()
        for partition in partitions or list(core.positions):
            core.seek(partition, None, LATEST)

    def pause(self, *partitions: Partition) -> None:
        """Gives out nothing of these partitions until `resume`."""
        self._of_core().set_paused(partitions, True)

    def resume(self, *partitions: Partition) -> None:
        """Gives out records of these partitions again."""
        self._of_core().set_paused(partitions, False)

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return {known for known, position in list(self._of_core().positions.items()) if position.paused}

    def highwater(self, partition: Partition) -> int | None:
        """The high watermark as the last fetch told it; None before the first."""
        return self._of_core().of(partition).high_watermark

    def _group(self, what: str) -> ConsumerGroup:
        group = self._of_core().group
        if group is None:
            raise IllegalStateError(f"{what}: the consumer has no group_id, and so no committed offsets")
        return group

    def _to_commit(self, group: ConsumerGroup, offsets: GivenOffsets | None) -> dict[TopicPartition, OffsetAndMetadata]:
        return group.offsets.consumed() if offsets is None else offsets_given(offsets)

    def _records_max(self, max_records: int | None) -> int:
        if max_records is None:
            return self._config.max_poll_records
        if isinstance(max_records, bool) or not isinstance(max_records, int) or max_records < 1:
            raise KafkaError(f"poll: max_records {max_records!r} is not a whole number from 1 on")
        return max_records

    def _check_assigned(self, core: ConsumerCore) -> None:
        if not core.positions and not core.is_subscribed:
            raise IllegalStateError("nothing to read: name topics when making the consumer, or call assign()")


def hold(core: ConsumerCore, polled: Polled) -> list[Generator[ConsumerRecord, None, None]]:
    """Polled records to be given out one at a time: each partition's position goes back, to move with them again."""
    held = []
    for topic_partition, records in polled.items():
        position = core.positions.get(topic_partition)
        if position is not None:
            held.append(one_by_one(core, position, records, position.moves, position.position))
            position.position = records[0].offset
            position.position_epoch = None
            position.is_held = True
    return held


def one_by_one(
    core: ConsumerCore, position: PartitionPosition, records: list[ConsumerRecord], moves: int, end: int | None
) -> Generator[ConsumerRecord, None, None]:
    """The records, with `position` in step. A seek or a new assignment meanwhile drops those that are left."""
    for record in records:
        if position.moves != moves or core.positions.get(position.topic_partition) is not position:
            return
        position.position = record.offset + 1
        position.position_epoch = record.leader_epoch
        yield record
    if position.moves == moves:
        position.position = end
        position.is_held = False


def known(offsets: Mapping[TopicPartition, OffsetAndTimestamp | None]) -> dict[TopicPartition, int]:
    return {partition: found.offset for partition, found in offsets.items() if found is not None}


def checked_times(timestamps: Mapping[Partition, int]) -> dict[TopicPartition, int]:
    for partition, timestamp in timestamps.items():
        if isinstance(timestamp, bool) or not isinstance(timestamp, int) or timestamp < 0:
            raise KafkaError(f"offsets_for_times: {timestamp!r} of {TopicPartition(*partition)} is not ms since 1970")
    return {TopicPartition(*partition): timestamp for partition, timestamp in timestamps.items()}


async def make_core(config: ConsumerConfig, on_data: Callable[[], None]) -> ConsumerCore:
    return ConsumerCore(config, on_data)
