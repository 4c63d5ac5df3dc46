"""Carries batches to their leaders: which go now, to whom, and what their answers mean.

One place decides, `_pump`: it runs when records, answers or metadata came, or when a timer is due, and hands each
broker's stream that can take one a request with at most one batch for each partition. While anything is under way a
tick watches over time-outs and over leaders that hang: a broker that is stopped closes no connection, so only fresh
metadata tells that another one leads now.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import UUID

from ..proto import record_codec
from ..proto.broker_pb2 import PartitionProduceRequest, PartitionProduceResponse, ProduceRequest
from ..proto.errors import ErrorCode, KafkaError, KafkaTimeoutError, NetworkError, NodeNotReadyError, error_for
from ..proto.record_batch import HEADER_SIZE
from .accumulator import Accumulator
from .backoff import Backoff, wait_after_ms
from .batch_split import split_batch
from .cluster_client import ClusterClient
from .config import ProducerConfig
from .metadata_cache import BrokerAddress, Leader
from .partition_queue import PartitionQueue
from .produce_stream import ProduceStream, SentBatch
from .producer_batch import ProducerBatch
from .producer_id_source import ProducerIdSource

logger = logging.getLogger(__name__)

_TICK_S: Final = 0.1
_STALLED_AFTER_MS: Final = 500
"""A request that has waited this long makes the producer look whether its leader still leads."""
_REFRESH_WAIT_MS: Final = 25.0
_MAYBE_IN_EARLIER_LOG: Final = "an earlier leader may have written it: its outcome is not known"
_OUTCOME_UNKNOWN: Final = frozenset(
    {
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.KAFKA_STORAGE_ERROR,
        # So does a leader answer that resigned, or whose topic went, after it had appended.
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
)
_NO_LONGER_LEADER: Final = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    }
)


class Sender:
    """Everything here runs on the producer's event loop, but `wake`, which any thread may call.

    The lock guards the accumulator and its queues against the threads that append.
    """

    def __init__(
        self,
        config: ProducerConfig,
        cluster: ClusterClient,
        accumulator: Accumulator,
        lock: threading.Lock,
        on_release: Callable[[], None],
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._clock = cluster.clock
        self._accumulator = accumulator
        self._lock = lock
        self._on_release = on_release  # memory came free; called without the lock
        self._compression = record_codec.compression_number(config.compression_type)
        self._streams: dict[int, ProduceStream] = {}
        self._producer_ids = ProducerIdSource(
            cluster,
            timeout_ms=config.request_timeout_ms,
            on_ready=self.wake_here,
            on_refused=self._fail_unsent,
        )
        self._refresh_task: asyncio.Task[None] | None = None
        self._refresh_backoff = Backoff(cluster.random, initial_ms=_REFRESH_WAIT_MS)
        self._tick: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pump_due = False
        self._completed: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self.closed = False
        cluster.on_change.append(self.wake_here)

    # --- waking up ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Lets the sender look at the accumulator; from any thread."""
        self._loop.call_soon_threadsafe(self.wake_here)

    def wake_here(self) -> None:
        """The same from the event loop itself; several calls in one turn make one look."""
        if not self._pump_due and not self.closed:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    async def close(self, error: KafkaError) -> None:
        """Stops at once; what is not done fails with `error`."""
        self.closed = True
        for handle in (self._tick, self._timer):
            if handle is not None:
                handle.cancel()
        await self._producer_ids.close()
        if self._refresh_task is not None:
            self._refresh_task.cancel()
            await asyncio.gather(self._refresh_task, return_exceptions=True)
        for stream in self._streams.values():
            await stream.close()
        with self._lock:
            unfinished = list(self._accumulator.unfinished())
            self._accumulator.active.clear()
            self._accumulator.used_bytes = 0
        for batch in unfinished:
            batch.fail(error)
        self._on_release()

    # --- sending --------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Sends what can be sent, and arranges to be woken for the rest."""
        self._pump_due = False
        if self.closed:
            return
        now_ms = self._clock.monotonic_ms()
        if self._accumulator.active and self._tick is None:
            self._tick = self._loop.call_later(_TICK_S, self._on_tick)
        next_ms: int | None = None
        leaderless = False
        by_broker: dict[int, list[tuple[PartitionQueue, Leader]]] = {}
        outgoing: list[tuple[ProduceStream, BrokerAddress, list[tuple[SentBatch, Leader]]]] = []
        self._follow_addresses()
        with self._lock:
            for queue in list(self._accumulator.active.values()):
                leader = self._cluster.cache.leader_of(queue.topic_partition)
                if queue.in_flight and leader is not None and self._has_moved(queue, leader):
                    self._take_back(queue)
                if not queue.waiting:
                    continue
                ready_at_ms = self._accumulator.ready_at_ms(queue)
                if ready_at_ms > now_ms:
                    next_ms = ready_at_ms if next_ms is None else min(next_ms, ready_at_ms)
                elif leader is None:
                    leaderless = True
                elif queue.may_send(now_ms, leader.epoch):
                    by_broker.setdefault(leader.broker_id, []).append((queue, leader))
            for broker_id, queues in by_broker.items():
                stream = self._stream(broker_id)
                address = self._cluster.cache.address_of(broker_id)
                if address is None:
                    leaderless = True
                elif stream.retry_at_ms > now_ms:
                    next_ms = stream.retry_at_ms if next_ms is None else min(next_ms, stream.retry_at_ms)
                elif not stream.writing:
                    outgoing.append((stream, address, self._take(broker_id, queues)))
        for stream, address, taken in outgoing:
            self._send(stream, address, taken)
        if leaderless:
            self._refresh_soon()
        self._set_timer(now_ms, next_ms)

    def _follow_addresses(self) -> None:
        for stream in self._streams.values():
            address = self._cluster.cache.address_of(stream.broker_id)
            if address is not None and stream.address is not None and stream.address != address:
                stream.break_off(NetworkError(f"broker {stream.broker_id} moved to {address}"))
                stream.retry_at_ms = 0

    def _take(self, broker_id: int, queues: list[tuple[PartitionQueue, Leader]]) -> list[tuple[SentBatch, Leader]]:
        """What goes into the next request to a broker: a batch of each partition, while they fit. Under the lock."""
        size = 0
        taken: list[tuple[SentBatch, Leader]] = []
        for queue, leader in queues:
            if queue.needs_producer_id and not self._adopt_producer_id(queue):
                continue
            # Uncompressed sizes: an upper bound is good enough.
            size += queue.waiting[0].size_bytes + HEADER_SIZE
            if taken and size > self._config.max_request_size:
                break
            queue.send_to(broker_id, self._topic_id(queue), leader.epoch)
            batch = queue.take()
            if batch is None:
                self._producer_ids.request()
                continue
            self._accumulator.served(queue)
            taken.append((SentBatch(queue, batch, batch.attempts), leader))
        return taken

    def _send(self, stream: ProduceStream, address: BrokerAddress, taken: list[tuple[SentBatch, Leader]]) -> None:
        if not taken:
            return
        request = ProduceRequest(
            acks=self._config.acks,
            timeout_ms=self._config.request_timeout_ms,
            partitions=[self._partition_request(sent.queue, sent.batch, leader) for sent, leader in taken],
        )
        stream.send(address, request, [sent for sent, _ in taken])
        if self._config.acks == 0:
            with self._lock:
                for sent, _ in taken:
                    self._finish(sent.queue, sent.batch, -1, -1)
            self._deliver()

    def _topic_id(self, queue: PartitionQueue) -> UUID | None:
        topic = self._cluster.cache.topic(queue.topic_partition.topic)
        return None if topic is None else topic.topic_id

    def _partition_request(
        self, queue: PartitionQueue, batch: ProducerBatch, leader: Leader
    ) -> PartitionProduceRequest:
        if batch.data is None:
            batch.data = record_codec.build_batch(batch.builder, self._compression)
            batch.builder = None
        if batch.base_sequence >= 0:
            record_codec.set_producer(batch.data, batch.producer_id, batch.producer_epoch, batch.base_sequence)
        topic_partition = batch.topic_partition
        return PartitionProduceRequest(
            topic=topic_partition.topic,
            topic_id=queue.topic_id.bytes if queue.topic_id is not None else b"",
            partition=topic_partition.partition,
            current_leader_epoch=leader.epoch,
            records=bytes(batch.data),
        )

    def _stream(self, broker_id: int) -> ProduceStream:
        stream = self._streams.get(broker_id)
        if stream is None:
            stream = ProduceStream(
                broker_id,
                self._cluster.channels,
                self._clock,
                on_answer=self._on_answer,
                on_broken=self._on_broken,
                on_writable=self.wake_here,
            )
            self._streams[broker_id] = stream
        return stream

    def _has_moved(self, queue: PartitionQueue, leader: Leader) -> bool:
        return leader.broker_id != queue.sent_to or self._topic_id(queue) != queue.topic_id

    def _take_back(self, queue: PartitionQueue) -> None:
        """Another broker leads now, or the topic was made anew: what the old one was sent goes there, in order, with
        the same sequences.
        """
        logger.info("leader_moved partition=%s from=%d", queue.topic_partition, queue.sent_to)
        for batch in list(queue.in_flight):
            queue.retry(batch, outcome_known=False, retry_at_ms=0)

    # --- answers --------------------------------------------------------------------------------------------------

    def _on_answer(self, sent: SentBatch, answer: PartitionProduceResponse) -> None:
        queue, batch, attempt = sent
        with self._lock:
            if batch.attempts != attempt or batch not in queue.in_flight:
                return  # given up or sent again since; the later try will tell
            code = ErrorCode.of(answer.error_code)
            if code is ErrorCode.NONE or code is ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
                known = code is ErrorCode.NONE
                self._finish(
                    queue, batch, answer.base_offset if known else -1, answer.log_append_time_ms if known else -1
                )
                self._refresh_backoff.reset()
            else:
                self._on_error(queue, batch, code, answer)
        self.wake_here()
        self._deliver()

    def _on_error(
        self, queue: PartitionQueue, batch: ProducerBatch, code: ErrorCode, answer: PartitionProduceResponse
    ) -> None:
        message = answer.error_message or code.message
        queue.last_error = f"{code.name}: {message}"
        logger.info(
            "produce_failed partition=%s broker=%d attempt=%d error=%s",
            queue.topic_partition,
            queue.sent_to,
            batch.attempts,
            code.name,
        )
        wait_ms = wait_after_ms(batch.attempts, self._cluster.random, initial_ms=self._config.retry_backoff_ms)
        retry_at_ms = self._clock.monotonic_ms() + int(wait_ms)
        if code in _NO_LONGER_LEADER:
            hinted = answer.HasField("current_leader") and self._cluster.cache.note_leader(
                queue.topic_partition, answer.current_leader
            )
            if hinted:
                retry_at_ms = 0
                self._cluster.notify()
            else:
                self._refresh_soon()
        if code in (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID) and batch.base_sequence >= 0:
            if not queue.out_of_order(batch, 0):
                self._fail(queue, batch, error_for(code, f"{message}; {_MAYBE_IN_EARLIER_LOG}"))
        elif code is ErrorCode.MESSAGE_TOO_LARGE and batch.base_sequence >= 0 and batch.maybe_in_earlier_log:
            self._fail(queue, batch, error_for(code, f"{message}; {_MAYBE_IN_EARLIER_LOG}"))
        elif code is ErrorCode.MESSAGE_TOO_LARGE and batch.record_count > 1:
            self._split(queue, batch)
        elif code.retriable and batch.attempts <= self._config.retries:
            queue.retry(batch, outcome_known=code not in _OUTCOME_UNKNOWN, retry_at_ms=retry_at_ms)
        else:
            if code in (ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.PRODUCER_FENCED):
                queue.producer_id_lost()
                self._producer_ids.request()
            self._fail(queue, batch, error_for(code, message))

    def _on_broken(self, stream: ProduceStream, sent: list[SentBatch], error: KafkaError) -> None:
        if self.closed:
            return
        logger.info("produce_stream_broken broker=%d requests=%d error=%s", stream.broker_id, len(sent), error)
        wait_ms = self._refresh_backoff.next_ms()
        stream.retry_at_ms = self._clock.monotonic_ms() + int(wait_ms)
        with self._lock:
            for queue, batch, attempt in sent:
                if batch.attempts == attempt and batch in queue.in_flight:
                    queue.last_error = str(error)
                    if batch.attempts <= self._config.retries:
                        queue.retry(batch, outcome_known=False, retry_at_ms=0)
                    else:
                        self._fail(queue, batch, error)
        self._refresh_soon()
        self.wake_here()
        self._deliver()

    def _finish(self, queue: PartitionQueue, batch: ProducerBatch, base_offset: int, log_append_time_ms: int) -> None:
        queue.acked(batch, self._clock.monotonic_ms())
        self._accumulator.release(queue, batch)
        self._completed.append(partial(batch.succeed, base_offset, log_append_time_ms))

    def _fail(self, queue: PartitionQueue, batch: ProducerBatch, error: KafkaError) -> None:
        queue.failed(batch)
        self._accumulator.release(queue, batch)
        self._completed.append(partial(batch.fail, error))

    def _deliver(self) -> None:
        """Tells who waits; without the lock, for a user's callback may well send the next record."""
        completed, self._completed = self._completed, []
        for complete in completed:
            complete()
        self._on_release()

    def _split(self, queue: PartitionQueue, batch: ProducerBatch) -> None:
        """The topic takes only smaller batches: its records go on in two."""
        parts = split_batch(batch)
        logger.info("batch_split partition=%s records=%d", queue.topic_partition, batch.record_count)
        queue.replace(batch, [part for _, part in parts])
        self._accumulator.used_bytes += sum(part.size_bytes for _, part in parts) - batch.size_bytes
        self._accumulator.batch_size_max = max(self._accumulator.batch_size, parts[0][1].size_bytes)
        self._completed.append(partial(batch.split_into, parts))

    # --- time -----------------------------------------------------------------------------------------------------

    def _set_timer(self, now_ms: int, next_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms is not None:
            self._timer = self._loop.call_later(max(1, next_ms - now_ms) / 1000, self.wake_here)

    def _on_tick(self) -> None:
        self._tick = None
        now_ms = self._clock.monotonic_ms()
        self._expire(now_ms)
        for stream in list(self._streams.values()):
            stream.check_timeout(now_ms, self._config.request_timeout_ms)
            oldest = stream.oldest_sent_at_ms
            stalled = oldest is not None and now_ms - oldest > _STALLED_AFTER_MS
            age_ms = now_ms - self._cluster.refreshed_at_ms
            if (stalled and age_ms > _STALLED_AFTER_MS) or age_ms > self._config.metadata_max_age_ms:
                self._refresh_soon()
        if self._accumulator.active:
            self._tick = self._loop.call_later(_TICK_S, self._on_tick)
        self.wake_here()

    def _expire(self, now_ms: int) -> None:
        before_ms = now_ms - self._config.delivery_timeout_ms
        with self._lock:
            expired = [
                (queue, batch) for queue in self._accumulator.active.values() for batch in queue.expired(before_ms)
            ]
            for queue, batch in expired:
                if queue.is_written(batch):
                    queue.given_up_as_written(batch)
                    self._accumulator.release(queue, batch)
                    self._completed.append(partial(batch.succeed, -1, -1))
                else:
                    self._fail(queue, batch, self._time_out(queue, batch))
        if expired:
            self._deliver()

    def _time_out(self, queue: PartitionQueue, batch: ProducerBatch) -> KafkaTimeoutError:
        sent = "its outcome is not known" if batch.maybe_appended or batch in queue.in_flight else "not written"
        reason = f"; last error: {queue.last_error}" if queue.last_error else ""
        return KafkaTimeoutError(
            f"{batch.record_count} records for {queue.topic_partition} were not acknowledged within "
            f"delivery_timeout_ms={self._config.delivery_timeout_ms}; {sent}{reason}"
        )

    # --- metadata and producer ids --------------------------------------------------------------------------------

    def _refresh_soon(self) -> None:
        if not self.closed and (self._refresh_task is None or self._refresh_task.done()):
            self._refresh_task = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        """One refresh, a short wait after the last one at least; `_pump` asks again while a leader is missing."""
        since_ms = self._clock.monotonic_ms() - self._cluster.refreshed_at_ms
        recent = since_ms < 2 * self._cluster.pause_ms(_REFRESH_WAIT_MS)
        wait_ms = self._cluster.pause_ms(self._refresh_backoff.next_ms()) if recent else 0
        await asyncio.sleep(wait_ms / 1000)
        try:
            await self._cluster.refresh()
        except NodeNotReadyError as error:
            logger.warning("metadata_refresh_failed error=%s", error)
            await asyncio.sleep(self._refresh_backoff.next_ms() / 1000)
        self._refresh_task = None
        self.wake_here()

    def _adopt_producer_id(self, queue: PartitionQueue) -> bool:
        if self._producer_ids.producer_id < 0 or self._producer_ids.producer_id == queue.spent_producer_id:
            self._producer_ids.request()
            return False
        queue.adopt_producer_id(self._producer_ids.producer_id, 0)
        return True

    def _fail_unsent(self, error: KafkaError) -> None:
        with self._lock:
            for queue in list(self._accumulator.active.values()):
                if queue.needs_producer_id:
                    for batch in list(queue.waiting):
                        self._fail(queue, batch, error)
        self._deliver()
