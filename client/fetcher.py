"""Fetches ahead for a consumer: which partitions to ask which brokers for, and what the answers mean.

Each partition is in one request at most; one that has been read out is asked for at once, even while a long poll
for others waits at the same broker. A partition keeps one chunk to read and one ahead, all that are not paused together
about `fetch_max_bytes` at most.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from ..proto.broker_pb2 import FetchRequest, FetchResponse, PartitionFetchRequest, PartitionFetchResponse
from ..proto.errors import ErrorCode, KafkaError, OffsetOutOfRangeError, error_for
from ..proto.identifiers import NONE_ID, TopicPartition
from .backoff import Backoff
from .cluster_client import ClusterClient
from .config import ConsumerConfig
from .metadata_cache import Leader
from .offset_lookup import look_up_offsets
from .positions import EARLIEST, LATEST, PartitionPosition
from .structs import OffsetAndTimestamp

logger = logging.getLogger(__name__)

_TICK_S: Final = 0.2
_STALLED_AFTER_MS: Final = 500
_FETCHES_PER_BROKER_MAX: Final = 8
_EMPTY_WAIT_MS: Final = 10
"""Between two fetches of a partition at its end, where the broker is told not to wait."""
_RESET_TIMEOUT_MS: Final = 30_000
_RESETS: Final = {"earliest": EARLIEST, "latest": LATEST}


class _Fetch(NamedTuple):
    broker_id: int
    sent_at_ms: int
    generations: dict[TopicPartition, int]


class Fetcher:
    """Lives on the consumer's event loop; `wake` may be called from any thread. The lock guards the positions."""

    def __init__(
        self,
        config: ConsumerConfig,
        cluster: ClusterClient,
        positions: dict[TopicPartition, PartitionPosition],
        lock: threading.Lock,
        on_data: Callable[[], None],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._clock = cluster.clock
        self._positions = positions
        self._lock = lock
        self._on_data = on_data
        self.isolation_level = 1 if config.isolation_level == "read_committed" else 0
        self._loop = asyncio.get_running_loop()
        self._fetches: dict[asyncio.Task[None], _Fetch] = {}
        self._resets: dict[asyncio.Task[None], dict[TopicPartition, int]] = {}
        self._refresh_task: asyncio.Task[None] | None = None
        self._backoff = Backoff(cluster.random)
        self._timer: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._pump_due = False
        self.closed = False
        cluster.on_change.append(self.wake_here)

    def wake(self) -> None:
        """Lets the fetcher look at the positions; from any thread."""
        self._loop.call_soon_threadsafe(self.wake_here)

    def wake_here(self) -> None:
        """The same from the event loop itself."""
        if not self._pump_due and not self.closed:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    async def close(self) -> None:
        """Ends every request under way."""
        self.closed = True
        for handle in (self._timer, self._tick):
            if handle is not None:
                handle.cancel()
        tasks = [*self._fetches, *self._resets, *([self._refresh_task] if self._refresh_task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- asking ---------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_due = False
        if self.closed:
            return
        now_ms = self._clock.monotonic_ms()
        next_ms: int | None = None
        leaderless = False
        ready: dict[int, list[tuple[PartitionPosition, Leader]]] = {}
        to_reset: dict[TopicPartition, int] = {}
        with self._lock:
            # What is paused is held by the user's wish, perhaps for ever: the others must not wait for it.
            room = self._config.fetch_max_bytes - sum(
                entry.buffered_bytes for entry in self._positions.values() if not entry.paused
            )
            for topic_partition, position in self._positions.items():
                leader = self._cluster.cache.leader_of(topic_partition)
                if position.fetching is not None and leader is not None and leader.broker_id != position.fetching:
                    position.fetching = None  # the answer, if one comes, is recognized as late by its generation
                    position.generation += 1
                topic = self._cluster.cache.topic(topic_partition.topic)
                made_anew = topic is not None and position.is_of_another(topic.topic_id)
                if made_anew and position.is_read_out:
                    self._made_anew(position)
                if position.reset is not None and position.error is None:
                    to_reset[topic_partition] = position.reset
                if not position.wants_data or room <= 0 or made_anew:
                    continue
                if leader is None:
                    leaderless = True
                elif position.retry_at_ms > now_ms:
                    next_ms = position.retry_at_ms if next_ms is None else min(next_ms, position.retry_at_ms)
                else:
                    ready.setdefault(leader.broker_id, []).append((position, leader))
            for broker_id, entries in ready.items():
                under_way = sum(fetch.broker_id == broker_id for fetch in self._fetches.values())
                if under_way < _FETCHES_PER_BROKER_MAX:
                    self._start_fetch(broker_id, entries, now_ms)
        self._start_resets(to_reset)
        if leaderless:
            self._refresh_soon()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None if next_ms is None else self._loop.call_later(max(1, next_ms - now_ms) / 1000, self.wake_here)
        )
        if self._positions and self._tick is None:
            self._tick = self._loop.call_later(_TICK_S, self._on_tick)

    def _made_anew(self, position: PartitionPosition) -> None:
        """The topic was deleted and made anew: no offset and no leader epoch of the old one means anything there."""
        reset = _RESETS.get(self._config.auto_offset_reset)
        logger.warning("topic_made_anew partition=%s offset=%s", position.topic_partition, position.fetch_offset)
        if reset is None:
            position.error = OffsetOutOfRangeError(
                f"{position.topic_partition} was made anew while offset {position.fetch_offset} of the old one was the "
                "next, and auto_offset_reset is 'none'"
            )
            self._loop.call_soon(self._on_data)
        else:
            position.seek(None, reset=reset)

    def _start_fetch(self, broker_id: int, entries: list[tuple[PartitionPosition, Leader]], now_ms: int) -> None:
        request = FetchRequest(
            max_wait_ms=self._config.fetch_max_wait_ms,
            min_bytes=self._config.fetch_min_bytes,
            max_bytes=self._config.fetch_max_bytes,
            isolation_level=self.isolation_level,  # type: ignore[arg-type]
        )
        generations = {}
        for position, leader in entries:
            topic_partition = position.topic_partition
            topic = self._cluster.cache.topic(topic_partition.topic)
            assert position.fetch_offset is not None
            request.partitions.append(
                PartitionFetchRequest(
                    topic=topic_partition.topic,
                    topic_id=b"" if topic is None else topic.topic_id.bytes,
                    partition=topic_partition.partition,
                    current_leader_epoch=leader.epoch,
                    fetch_offset=position.fetch_offset,
                    partition_max_bytes=self._config.max_partition_fetch_bytes,
                    last_fetched_epoch=NONE_ID if position.last_fetched_epoch is None else position.last_fetched_epoch,
                )
            )
            position.fetching = broker_id
            if topic is not None and position.topic_id is None:
                position.topic_id = topic.topic_id
            generations[topic_partition] = position.generation
        task = self._loop.create_task(self._fetch(broker_id, request, generations))
        self._fetches[task] = _Fetch(broker_id, now_ms, generations)
        task.add_done_callback(self._fetch_done)

    def _fetch_done(self, task: asyncio.Task[None]) -> None:
        self._fetches.pop(task, None)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("fetch_task_failed error=%r", failure, exc_info=failure)
        self.wake_here()

    async def _fetch(self, broker_id: int, request: FetchRequest, generations: dict[TopicPartition, int]) -> None:
        timeout_ms = self._config.fetch_max_wait_ms + self._config.request_timeout_ms
        response: FetchResponse | None = None
        try:
            response = await self._cluster.call_broker(broker_id, "Fetch", request, timeout_ms)
        except KafkaError as error:
            logger.info("fetch_failed broker=%d error=%s", broker_id, error)
            self._refresh_soon()
        wait_ms = self._backoff.next_ms() if response is None else self._config.retry_backoff_ms
        retry_at_ms = self._clock.monotonic_ms() + int(wait_ms)
        answers = {} if response is None else {TopicPartition(a.topic, a.partition): a for a in response.partitions}
        if response is not None:
            self._backoff.reset()
        with self._lock:
            for topic_partition, generation in generations.items():
                position = self._positions.get(topic_partition)
                if position is None or position.generation != generation:
                    continue
                position.fetching = None
                answer = answers.get(topic_partition)
                if answer is not None:
                    self._take(position, answer)
                else:
                    position.retry_at_ms = retry_at_ms
        self._on_data()

    # --- answers --------------------------------------------------------------------------------------------------

    def _take(self, position: PartitionPosition, answer: PartitionFetchResponse) -> None:
        code = ErrorCode.of(answer.error_code)
        if code is ErrorCode.NONE:
            if answer.diverging_epoch_end_offset >= 0 and position.last_fetched_epoch is not None:
                self._truncated(position, answer)
                return
            position.high_watermark = answer.high_watermark
            if answer.records:
                try:
                    position.add(answer.records)
                except KafkaError as error:
                    position.error = error
            elif self._config.fetch_max_wait_ms < _EMPTY_WAIT_MS:
                position.retry_at_ms = self._clock.monotonic_ms() + _EMPTY_WAIT_MS
            return
        where = f"{position.topic_partition} at offset {position.fetch_offset}"
        logger.info("fetch_refused partition=%s offset=%s error=%s", *position.topic_partition, code.name)
        if code is ErrorCode.OFFSET_OUT_OF_RANGE:
            reset = _RESETS.get(self._config.auto_offset_reset)
            if reset is None:
                position.error = OffsetOutOfRangeError(f"{where}: {code.message}, and auto_offset_reset is 'none'")
            else:
                logger.warning(
                    "offset_out_of_range partition=%s offset=%s reset=%s",
                    position.topic_partition,
                    position.fetch_offset,
                    self._config.auto_offset_reset,
                )
                position.out_of_range(reset)
        elif code.retriable:
            hinted = answer.HasField("current_leader") and self._cluster.cache.note_leader(
                position.topic_partition, answer.current_leader
            )
            if not hinted:
                position.retry_at_ms = self._clock.monotonic_ms() + self._config.retry_backoff_ms
                self._refresh_soon()
        else:
            position.error = error_for(code, f"{where}: {answer.error_message or code.message}")

    def _truncated(self, position: PartitionPosition, answer: PartitionFetchResponse) -> None:
        end_offset = answer.diverging_epoch_end_offset
        logger.warning(
            "log_truncated partition=%s position=%s end_offset=%d epoch=%d",
            position.topic_partition,
            position.position,
            end_offset,
            answer.diverging_epoch,
        )
        if self._config.auto_offset_reset == "none":
            position.error = OffsetOutOfRangeError(
                f"{position.topic_partition} was truncated to offset {end_offset}, below {position.fetch_offset}, "
                "which was read before (KIP-320), and auto_offset_reset is 'none'"
            )
        else:
            position.truncated_to(end_offset, answer.diverging_epoch)

    # --- offsets and metadata -------------------------------------------------------------------------------------

    def _start_resets(self, to_reset: dict[TopicPartition, int]) -> None:
        busy = {topic_partition for partitions in self._resets.values() for topic_partition in partitions}
        wanted = {
            topic_partition: timestamp for topic_partition, timestamp in to_reset.items() if topic_partition not in busy
        }
        if wanted:
            task = self._loop.create_task(self._reset(wanted))
            self._resets[task] = wanted
            task.add_done_callback(self._reset_done)

    def _reset_done(self, task: asyncio.Task[None]) -> None:
        self._resets.pop(task, None)
        self.wake_here()

    async def _reset(self, wanted: dict[TopicPartition, int]) -> None:
        with self._lock:
            generations = {
                topic_partition: position.generation
                for topic_partition in wanted
                if (position := self._positions.get(topic_partition)) is not None
            }

        def on_found(topic_partition: TopicPartition, found: OffsetAndTimestamp | None) -> None:
            with self._lock:
                position = self._positions.get(topic_partition)
                if position is not None and position.generation == generations.get(topic_partition) and found:
                    position.reset_to(found.offset)
            self.wake_here()
            self._on_data()

        try:
            await look_up_offsets(
                self._cluster,
                wanted,
                isolation_level=self.isolation_level,
                timeout_ms=_RESET_TIMEOUT_MS,
                on_found=on_found,
            )
        except KafkaError as error:
            logger.warning("offset_reset_failed error=%s", error)
            if not error.retriable:
                self._report(wanted, error)

    def _report(self, partitions: dict[TopicPartition, int], error: KafkaError) -> None:
        with self._lock:
            for topic_partition in partitions:
                position = self._positions.get(topic_partition)
                if position is not None and position.reset is not None:
                    position.error = error  # once it was told, it is tried again
        self._on_data()

    def _on_tick(self) -> None:
        self._tick = None
        now_ms = self._clock.monotonic_ms()
        patience_ms = self._config.fetch_max_wait_ms + _STALLED_AFTER_MS
        stalled = any(now_ms - fetch.sent_at_ms > patience_ms for fetch in self._fetches.values())
        age_ms = now_ms - self._cluster.refreshed_at_ms
        if (stalled and age_ms > _STALLED_AFTER_MS) or age_ms > self._config.metadata_max_age_ms:
            self._refresh_soon()
        self.wake_here()

    def _refresh_soon(self) -> None:
        if not self.closed and (self._refresh_task is None or self._refresh_task.done()):
            self._refresh_task = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        since_ms = self._clock.monotonic_ms() - self._cluster.refreshed_at_ms
        recent = since_ms < self._cluster.pause_ms(50)
        await asyncio.sleep((self._cluster.pause_ms(self._backoff.next_ms()) if recent else 0) / 1000)
        try:
            await self._cluster.refresh()
        except KafkaError as error:
            logger.warning("metadata_refresh_failed error=%s", error)
            await asyncio.sleep(self._backoff.next_ms() / 1000)
        self._refresh_task = None
        self.wake_here()
