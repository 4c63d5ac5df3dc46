"""What both consumers are: an assignment, positions, and a fetcher on an event loop that reads ahead."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from ..proto import record_codec
from ..proto.errors import IllegalStateError, KafkaConfigurationError, KafkaError, KafkaTimeoutError
from ..proto.identifiers import TopicPartition
from ..proto.record_batch import RecordBatchHeader
from .assignment import Assignment
from .backoff import Backoff
from .cluster_client import ClusterClient
from .config import ConsumerConfig
from .consumer_group import ConsumerGroup
from .fetcher import Fetcher
from .offset_lookup import look_up_offsets
from .positions import EARLIEST, LATEST, BatchReader, PartitionPosition
from .structs import ConsumerRebalanceListener, ConsumerRecord, OffsetAndTimestamp

logger = logging.getLogger(__name__)

Polled = dict[TopicPartition, list[ConsumerRecord]]


class _CodecReader(BatchReader):
    def crc_is_right(self, buffer: bytes, position: int, header: RecordBatchHeader) -> bool:
        return record_codec.crc_is_right(buffer, position, header)

    def records(self, data: bytes) -> Iterator[Any]:
        return record_codec.read_batch(data)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return record_codec.decode_errors()


class ConsumerCore:
    """Made on the event loop that it will use. What is not a coroutine may be called from the user's thread."""

    def __init__(self, config: ConsumerConfig, on_data: Callable[[], None]) -> None:
        self.config = config
        self.cluster = ClusterClient(config)
        self.assignment = Assignment()
        self.lock = self.assignment.lock
        self.positions = self.assignment.positions
        self.closed = False
        self.woken = False  # wakeup() was called
        self.subscribed: set[str] = set()
        self.pattern: re.Pattern[str] | None = None
        self._reader = _CodecReader()
        self._deserializes = config.key_deserializer is not None or config.value_deserializer is not None
        self.fetcher = Fetcher(config, self.cluster, self.positions, self.lock, on_data)
        self.cluster.on_change.append(self._follow_subscription)
        self._on_data = on_data
        self.group = (
            None if config.group_id is None else ConsumerGroup(config, self.cluster, self.assignment, self._on_group)
        )
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.Task[None] | None = None
        self._assigned_once: set[str] = set()  # subscribed topics whose first partitions are assigned

    # --- assignment -----------------------------------------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition | tuple[str, int]]) -> None:
        """Reads these partitions from now on, from the committed offset or from where `auto_offset_reset` says."""
        wanted = [TopicPartition(*partition) for partition in partitions]
        for topic_partition in wanted:
            if not isinstance(topic_partition.topic, str) or not isinstance(topic_partition.partition, int):
                raise KafkaConfigurationError(f"assign: {topic_partition!r} is not a TopicPartition")
        if self.group is not None and self.is_subscribed:
            raise IllegalStateError("assign: the consumer has subscribed and its group assigns; unsubscribe() first")
        self.subscribed = set()
        self.pattern = None
        self.assignment.drop([known for known in self.positions if known not in wanted])
        self.assignment.add(wanted, reset=self._initial_reset(), awaits_committed=self.group is not None)
        if self.group is not None:
            self.group.look()
        self.cluster.topics = {topic_partition.topic for topic_partition in wanted}
        self.fetcher.wake()

    def subscribe(
        self,
        topics: Iterable[str],
        pattern: re.Pattern[str] | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Reads these topics, or those that match: what its group gives it, or without one every partition."""
        if self.group is not None:
            if self.positions and not self.is_subscribed:
                raise IllegalStateError("subscribe: partitions are assigned by hand; unsubscribe() first")
            self.group.rebalance.listener = listener
            self.group.subscribe(topics, pattern)
        else:
            self._assigned_once = set()
            self.assignment.drop(list(self.positions))
        self.subscribed = set(topics)
        self.pattern = pattern
        self.cluster.topics = None if pattern is not None else set(self.subscribed)
        self._loop.call_soon_threadsafe(self._follow_subscription)
        self._loop.call_soon_threadsafe(self._look)
        self.fetcher.wake()

    def unsubscribe(self) -> None:
        """Reads nothing from now on. The membership is not its matter."""
        self.subscribed = set()
        self.pattern = None
        self.assignment.drop(list(self.positions))
        self.cluster.topics = set()
        self.fetcher.wake()

    @property
    def is_subscribed(self) -> bool:
        """True if topics were named, not partitions."""
        return bool(self.subscribed) or self.pattern is not None

    def _follow_subscription(self) -> None:
        """Without a group: assigns the partitions that the subscribed topics have and that are not assigned yet."""
        if self.pattern is not None:
            matching = self.cluster.cache.matching_topics(
                self.pattern, internal=not self.config.exclude_internal_topics
            )
            self.subscribed = set(matching)
        if self.group is not None:
            return
        added = False
        for name in sorted(self.subscribed):
            info = self.cluster.cache.topic(name)
            if info is None:
                continue
            # A partition added later is read from its beginning: nothing in it may be missed.
            reset = EARLIEST if name in self._assigned_once else self._initial_reset()
            found = [TopicPartition(name, partition.partition) for partition in info.partitions]
            added |= self.assignment.add(found, reset=reset, awaits_committed=False)
            self._assigned_once.add(name)
        if added:
            self.fetcher.wake_here()
            self._on_data()

    def _on_group(self) -> None:
        """The group needs the user, or positions are known."""
        self.fetcher.wake_here()
        self._on_data()

    def _initial_reset(self) -> int | None:
        return {"earliest": EARLIEST, "latest": LATEST}.get(self.config.auto_offset_reset)

    def of(self, partition: TopicPartition | tuple[str, int]) -> PartitionPosition:
        """The position of an assigned partition. :raises IllegalStateError: it is not assigned."""
        position = self.positions.get(TopicPartition(*partition))
        if position is None:
            raise IllegalStateError(f"{TopicPartition(*partition)} is not assigned to this consumer")
        return position

    def seek(self, partition: TopicPartition | tuple[str, int], offset: int | None, reset: int | None = None) -> None:
        position = self.of(partition)
        with self.lock:
            position.seek(offset, reset=reset)
        self.fetcher.wake()

    def set_paused(self, partitions: Collection[TopicPartition | tuple[str, int]], paused: bool) -> None:
        found = [self.of(partition) for partition in partitions]
        with self.lock:
            for position in found:
                position.paused = paused
        self.fetcher.wake()

    # --- reading --------------------------------------------------------------------------------------------------

    def take(self, records_max: int) -> Polled:
        """Records that are here already, at most so many, from the partitions in turn. Never waits."""
        if self.closed:
            raise IllegalStateError("the consumer is closed")
        polled: Polled = {}
        remaining = records_max
        room = False  # something was read out, so that more may be fetched
        with self.lock:
            for topic_partition in list(self.assignment.order):
                position = self.positions.get(topic_partition)
                if position is None:
                    continue
                if position.is_held:
                    position.go_back()
                    room = True
                if not position.has_data:
                    continue
                try:
                    found = position.take(remaining, self._reader, check_crc=self.config.check_crcs)
                except KafkaError as error:
                    if polled:
                        position.error = error  # for the next poll, after what is good
                        break
                    raise
                room |= position.wants_data
                if found:
                    polled[topic_partition] = found
                    remaining -= len(found)
                # Whoever was read goes to the end of the line.
                self.assignment.order.remove(topic_partition)
                self.assignment.order.append(topic_partition)
                if remaining <= 0:
                    break
        if room:
            self.fetcher.wake()
        return self._deserialized(polled) if self._deserializes else polled

    def _deserialized(self, polled: Polled) -> Polled:
        """Keys and values as the user's functions make them.

        Where one raises, the partition goes back to that record: it is raised by the poll that would begin with it,
        so that what is before it is not lost, and the user may seek past it.
        """
        made: Polled = {}
        failure: Exception | None = None
        key_deserializer, value_deserializer = self.config.key_deserializer, self.config.value_deserializer
        for topic_partition, records in polled.items():
            done: list[ConsumerRecord] = []
            for record in records:
                try:
                    key = record.key if key_deserializer is None else key_deserializer(record.key)
                    value = record.value if value_deserializer is None else value_deserializer(record.value)
                except Exception as error:  # noqa: BLE001  # a user's function may raise anything
                    failure = error
                    self.seek(topic_partition, record.offset)
                    break
                done.append(record._replace(key=key, value=value))
            if done:
                made[topic_partition] = done
        if failure is not None and not made:
            raise failure
        return made

    @property
    def has_data(self) -> bool:
        return self.closed or self.woken or any(position.has_data for position in list(self.positions.values()))

    # --- on the event loop ----------------------------------------------------------------------------------------

    async def begin(self, topics: Collection[str]) -> None:
        """Subscribes to the topics named when the consumer was made, once it has metadata or has tried for it."""
        if topics:
            self.subscribe(topics)
            await asyncio.sleep(0)  # the group hears of it
            try:
                await self.cluster.refresh()
            except KafkaError as error:
                logger.warning("metadata_refresh_failed error=%s", error)

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        """Asks for metadata until each subscribed topic has been seen: a topic may be created after its consumer."""
        backoff = Backoff(self.cluster.random, initial_ms=50)
        while not self.closed and self._misses_topics:
            try:
                await self.cluster.refresh()
            except KafkaError as error:
                logger.debug("metadata_refresh_failed error=%s", error)
            await asyncio.sleep(backoff.next_ms() / 1000)

    @property
    def _misses_topics(self) -> bool:
        if self.pattern is not None:
            return self.cluster.refreshed_at_ms < 0
        return any(self.cluster.cache.topic(name) is None for name in self.cluster.topics or ())

    async def position(self, partition: TopicPartition | tuple[str, int], timeout_ms: float) -> int:
        """The next offset to be given out, once it is known."""
        deadline_ms = self.cluster.clock.monotonic_ms() + timeout_ms
        while True:
            position = self.of(partition)
            if position.position is not None:
                return position.position
            if position.error is not None:
                raise position.error
            if self.cluster.clock.monotonic_ms() >= deadline_ms:
                raise KafkaTimeoutError(f"the position of {TopicPartition(*partition)} is not known yet")
            await asyncio.sleep(0.002)

    async def offsets(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: float
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """Offsets by time, or by EARLIEST and LATEST."""
        found: dict[TopicPartition, OffsetAndTimestamp | None] = {}
        named = {TopicPartition(*partition): timestamp for partition, timestamp in timestamps.items()}
        unknown = {partition.topic for partition in named if self.cluster.cache.leader_of(partition) is None}
        if unknown:
            await self.cluster.refresh(unknown)
        await look_up_offsets(
            self.cluster,
            named,
            isolation_level=self.fetcher.isolation_level,
            timeout_ms=timeout_ms,
            on_found=found.__setitem__,
        )
        return found

    async def partitions_for_topic(self, topic: str) -> set[int] | None:
        if self.cluster.cache.topic(topic) is None:
            await self.cluster.refresh((topic,))
        info = self.cluster.cache.topic(topic)
        return None if info is None else {partition.partition for partition in info.partitions}

    async def topics(self) -> set[str]:
        kept, self.cluster.topics = self.cluster.topics, None
        try:
            await self.cluster.refresh()
        finally:
            self.cluster.topics = kept
        return self.cluster.cache.topic_names()

    async def close(self) -> None:
        self.closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self.group is not None:
            await self.group.close()
        await self.fetcher.close()
        await self.cluster.close()
        self._on_data()
