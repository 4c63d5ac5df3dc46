"""A producer over Kafka's protocol that sends on to a new leader while the old one owes it answers, as librdkafka does.

aiokafka and the SDK have one batch of a partition under way, or wait for all answers before they follow a new leader.
This one is idempotent with up to five batches under way, and goes where the partition is led now:

    an ack                        is the ack of all that was sent before it too (librdkafka's implicit ack)
    an error that passes, or none all that is under way comes back first; then all goes again in its order
    OUT_OF_ORDER_SEQUENCE_NUMBER  the same, where something before it has no answer yet; of the first one: the log
                                  lacks what it acked, or what was acked for it
    any other error               as of the first one: all that is under way comes back, what has no answer is given up
                                  and never sent again, and a new producer id begins

It takes a new producer id every few batches besides: a leader that has never heard of one is what it is here for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from random import Random
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import DuplicateSequenceNumber, KafkaError, NoError, OutOfOrderSequenceNumber, for_code
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String
from harness.record_batches import record_batch
from simulator.ledger import Place, Send
from simulator.world import KAFKA_PORT, World

UNANSWERED_MAX: Final = 5
REQUEST_TIMEOUT_MS: Final = 4_000
_ASK_TIMEOUT_MS: Final = 500
"""For what any broker can answer: the next one is asked soon."""
_REFRESH_S: Final = 0.25
_LAST_WORD_S: Final = 60
_ACKS_ALL: Final = -1


class _MetadataResponse(Response):  # type: ignore[misc]
    """Version 7, which aiokafka does not know: with leader epochs."""

    API_KEY = 3
    API_VERSION = 7
    _BROKER = (("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))
    _PARTITION = (
        ("error_code", Int16),
        ("partition", Int32),
        ("leader", Int32),
        ("leader_epoch", Int32),
        ("replicas", Array(Int32)),
        ("isr", Array(Int32)),
        ("offline_replicas", Array(Int32)),
    )
    _TOPIC = (
        ("error_code", Int16),
        ("topic", String("utf-8")),
        ("is_internal", Boolean),
        ("partitions", Array(*_PARTITION)),
    )
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(*_BROKER)),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        ("topics", Array(*_TOPIC)),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 7
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = MetadataRequest_v5.SCHEMA

    def prepare(self, _: object) -> _MetadataRequest:
        """There is one version of it."""
        return self


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    def __del__(self) -> None:
        """One whose process was killed is not closed."""


class _Batch:
    """What goes in one request, and again as it is."""

    def __init__(self, sequence: int, data: bytes, sends: list[Send]) -> None:
        self.sequence = sequence
        self.data = data
        self.sends = sends
        self.under_way = False


async def pipelining_producer(world: World, name: str, topic: str, partition: int, stop: asyncio.Event) -> None:
    """A few batches under each producer id until `stop`; ends when each is acked or given up."""
    random = Random(f"{world.seed} {name}")
    leader = _Leader(world, name, Place(topic, partition))
    watching = asyncio.create_task(leader.watch())
    try:
        while not stop.is_set():
            producer_id = await leader.new_producer_id()
            if producer_id is not None:
                await _Session(world, name, leader, producer_id, random).run(stop)
    finally:
        watching.cancel()
        leader.close()


class _Session:
    """One producer id."""

    def __init__(self, world: World, name: str, leader: _Leader, producer_id: int, random: Random) -> None:
        self._world = world
        self._name = name
        self._leader = leader
        self._producer_id = producer_id
        self._random = random
        self._unanswered: deque[_Batch] = deque()  # in the order of their sequences
        self._requests: dict[asyncio.Task[Any], None] = {}
        self._next_sequence = 0
        self._draining = False  # something is to go again, once all that is under way came back
        self._given_up = False

    async def run(self, stop: asyncio.Event) -> None:
        """A few batches, with pauses in which the leader may change, and the wait for the last answer."""
        random, loop = self._random, self._world.loop
        for _ in range(random.choice((1, 3, 3, 8))):
            if self._given_up or stop.is_set():
                break
            for _ in range(random.choice((1, 1, 2))):
                self._make_batch(random.choice((1, 1, 3)))
            await self._for_a_while(loop.time() + random.choice((0.01, 0.05, 0.3, 1.0, 2.0)))
        deadline_s = loop.time() + _LAST_WORD_S
        while self._unanswered and not self._given_up and loop.time() < deadline_s:
            await self._for_a_while(loop.time() + 0.1)
        while self._requests:  # what is under way is not to arrive beside what comes next
            await self._for_a_while(loop.time() + 0.1)

    async def _for_a_while(self, until_s: float) -> None:
        while (left_s := until_s - self._world.loop.time()) > 0:
            self._send_what_may_go()
            await asyncio.sleep(min(left_s, 0.05))

    def _make_batch(self, count: int) -> None:
        if len(self._unanswered) >= UNANSWERED_MAX:
            return
        ledger, place = self._world.ledger, self._leader.place
        values = [b"%s-%d" % (self._name.encode(), len(ledger.sends) + number) for number in range(count)]
        sends = [ledger.sent(self._name, place, value) for value in values]
        data = record_batch(
            values,
            timestamps=int(time.time() * 1_000),
            producer_id=self._producer_id,
            base_sequence=self._next_sequence,
        )
        self._unanswered.append(_Batch(self._next_sequence, bytes(data), sends))
        self._next_sequence += count

    def _send_what_may_go(self) -> None:
        if self._draining and not self._requests:
            self._draining = False
        if self._draining or self._given_up:
            return
        connection = self._leader.connection()
        if connection is None:
            return
        for batch in self._unanswered:
            if not batch.under_way:
                self._send(connection, batch)

    def _send(self, connection: _Connection, batch: _Batch) -> None:
        topic, partition_number = self._leader.place
        request = ProduceRequest(None, _ACKS_ALL, REQUEST_TIMEOUT_MS, [(topic, [(partition_number, batch.data)])])
        try:
            answer = connection.send(request)
        except KafkaError:
            self._draining = True
            return
        batch.under_way = True
        task = asyncio.ensure_future(answer)
        self._requests[task] = None
        task.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: _Batch, task: asyncio.Task[Any]) -> None:
        del self._requests[task]
        batch.under_way = False
        if batch not in self._unanswered:
            return  # a later ack was its own
        failure = task.exception()
        if failure is not None:
            if not isinstance(failure, KafkaError | TimeoutError):
                raise failure
            self._draining = True
            return
        [(_, [answer])] = task.result().topics
        error = for_code(answer[1])
        if error is NoError or error is DuplicateSequenceNumber:
            self._acked(batch, answer[2] if error is NoError else -1)
        elif error.retriable or (error is OutOfOrderSequenceNumber and batch is not self._unanswered[0]):
            self._draining = True
        else:
            self._given_up = True

    def _acked(self, batch: _Batch, base_offset: int) -> None:
        ledger, number = self._world.ledger, self._leader.place.partition
        while (earlier := self._unanswered.popleft()) is not batch:
            for send in earlier.sends:
                ledger.acked(send, number, -1)
        for place, send in enumerate(batch.sends):
            ledger.acked(send, number, base_offset + place if base_offset >= 0 else -1)


class _Leader:
    """Who leads the partition in the latest leader epoch that any broker told of, and a connection to it."""

    def __init__(self, world: World, name: str, place: Place) -> None:
        self.place = place
        self._world = world
        self._random = Random(f"{world.seed} {name} metadata")
        self._name = name
        self._address: tuple[str, int] | None = None
        self._epoch = -1  # a leader that does not know that it was deposed is not to be followed back
        self._connections: dict[tuple[str, int], _Connection] = {}
        self._connecting: dict[tuple[str, int], asyncio.Task[None]] = {}

    def connection(self) -> _Connection | None:
        """One that is open, or None while it is being made."""
        address = self._address
        if address is None:
            return None
        connection = self._connections.get(address)
        if connection is not None and connection.connected():
            return connection
        if address not in self._connecting:
            self._connecting[address] = asyncio.create_task(self._connect(address))
        return None

    async def _connect(self, address: tuple[str, int]) -> None:
        try:
            self._connections[address] = await self._connected(address, REQUEST_TIMEOUT_MS)
        except (KafkaError, OSError, TimeoutError):
            pass
        finally:
            del self._connecting[address]

    async def _connected(self, address: tuple[str, int], timeout_ms: int) -> _Connection:
        connection = _Connection(*address, client_id=self._name, request_timeout_ms=timeout_ms)
        await connection.connect()
        return connection

    async def watch(self) -> None:
        """Asks who leads, now and then."""
        while True:
            answer = await self._ask(_MetadataRequest([self.place.topic], False))
            if answer is not None:
                self._take(answer)
            await asyncio.sleep(_REFRESH_S)

    def _take(self, answer: Any) -> None:
        addresses = {node_id: (host, port) for node_id, host, port, _ in answer.brokers}
        for _, _, _, partitions in answer.topics:
            for _, number, leader, epoch, *_ in partitions:
                if number == self.place.partition and epoch >= self._epoch and leader in addresses:
                    self._address, self._epoch = addresses[leader], epoch

    async def new_producer_id(self) -> int | None:
        """None: nobody gave one."""
        answer = await self._ask(InitProducerIdRequest(None, 0))
        if answer is None or for_code(answer.error_code) is not NoError:
            await asyncio.sleep(_REFRESH_S)
            return None
        return int(answer.producer_id)

    async def _ask(self, request: Any) -> Any:
        """What some broker answers; None if it does not."""
        host = self._random.choice([broker.host for broker in self._world.brokers.values()])
        connection: _Connection | None = None
        try:
            connection = await self._connected((host, KAFKA_PORT), _ASK_TIMEOUT_MS)
            return await connection.send(request)
        except (KafkaError, OSError, TimeoutError):
            return None
        finally:
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Everything."""
        for task in self._connecting.values():
            task.cancel()
        for connection in self._connections.values():
            connection.close()
