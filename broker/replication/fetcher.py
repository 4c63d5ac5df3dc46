"""Copies partitions from one leader: one task and one stream for all that this broker follows there.

A broken stream is opened again at once, then after short, jittered pauses. All that moves a position (an answer, a
timer, newer metadata) only marks the partition; one writer asks for all that is marked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from ...cluster.broker import Endpoint
from ...cluster.invariant import InvariantError
from ...proto.errors import ErrorCode, NetworkError
from ...proto.identifiers import BrokerEpoch, BrokerId
from .follower_session import CREDIT_BYTES, FollowerSession
from .transport import ReplicaStream, ReplicaTransport

if TYPE_CHECKING:
    from ..leader_replica import PartitionKey
    from ..partition import Partition

logger = logging.getLogger(__name__)

REQUEST_PARTITIONS_MAX: Final = 500
"""Partitions of one message: its reader looks at all of them at one stroke."""
_RECONNECT_MS: Final = 20
_RECONNECT_MS_MAX: Final = 200


class ReplicaFetcher:
    """Lives as long as this broker follows anything on `leader_id` and knows where that listens."""

    def __init__(
        self,
        *,
        broker_id: BrokerId,
        leader_id: BrokerId,
        endpoint: Endpoint,
        broker_epoch: Callable[[], BrokerEpoch],
        transport: ReplicaTransport,
        random: Random,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self.leader_id: Final = leader_id
        self.endpoint: Final = endpoint
        self._broker_epoch = broker_epoch
        self._transport = transport
        self._random = random
        self._on_fatal = on_fatal
        self._session = FollowerSession(broker_id, leader_id, random)
        self._marked: dict[PartitionKey, None] = {}
        self._credit_bytes = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Nothing is followed here."""
        return not self._session.partitions

    @property
    def partitions(self) -> list[Partition]:
        return list(self._session.partitions.values())

    def follow(self, partition: Partition) -> None:
        """Copies this partition from here, from now on; again after its epoch has changed."""
        self._session.partitions[partition.key] = partition
        self._mark(partition.key)

    def unfollow(self, partition: Partition) -> None:
        """No longer copies it."""
        if self._session.partitions.pop(partition.key, None) is not None:
            self._mark(partition.key)

    def start(self) -> None:
        """Begins to fetch."""
        self._task = asyncio.create_task(self._run(), name=f"fetcher-{self.leader_id}")

    async def stop(self) -> None:
        """Ends the stream; returns once no answer can be taken in any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _mark(self, key: PartitionKey) -> None:
        self._marked[key] = None
        self._news.set()

    async def _run(self) -> None:
        pause_ms = 0
        while True:
            try:
                began = asyncio.get_running_loop().time()
                try:
                    await self._fetch()
                finally:
                    if asyncio.get_running_loop().time() - began > 1.0:
                        pause_ms = 0
            except NetworkError as error:
                pause_ms = min(max(pause_ms * 2, _RECONNECT_MS), _RECONNECT_MS_MAX)
                self._log_broken(str(error), pause_ms)
            except InvariantError as error:
                self._on_fatal(error)
                return
            except Exception as error:  # the outermost loop of the task: say it, and go on
                pause_ms = _RECONNECT_MS_MAX
                logger.exception("replica_fetcher_failed leader=%d error=%r", self.leader_id, error)
            await asyncio.sleep(self._random.randint(pause_ms // 2, pause_ms) / 1000)

    def _log_broken(self, reason: str, pause_ms: int) -> None:
        logger.warning(
            "replica_stream_broken leader=%d endpoint=%s partitions=%d error=%s retry_in_ms=%d",
            self.leader_id,
            self.endpoint,
            len(self._session.partitions),
            reason,
            pause_ms,
        )

    async def _fetch(self) -> None:
        """One stream, until it breaks. :raises NetworkError: always, at the end."""
        stream = self._transport.open(self.endpoint)
        writer: asyncio.Task[None] | None = None
        try:
            await stream.connected()
            # A new stream begins with every partition and the whole credit.
            keys = tuple(self._session.partitions)
            self._marked = dict.fromkeys(keys[REQUEST_PARTITIONS_MAX:])
            self._credit_bytes = 0
            first = keys[:REQUEST_PARTITIONS_MAX]
            await stream.write(self._session.request(self._broker_epoch(), first, CREDIT_BYTES))
            if self._marked:
                self._news.set()
            writer = asyncio.create_task(self._write(stream), name=f"fetcher-writer-{self.leader_id}")
            while True:
                await self._receive(stream)
        finally:
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
            await stream.close()

    async def _receive(self, stream: ReplicaStream) -> None:
        response = await stream.read()
        if response.error_code:
            raise NetworkError(f"the leader refused the stream: {ErrorCode.of(response.error_code).name}")
        received = self._session.receive(response)
        self._credit_bytes += received.credit_bytes
        for key in received.ask:
            self._marked[key] = None
        for key, wait_ms in received.ask_later:
            asyncio.get_running_loop().call_later(wait_ms / 1000, self._mark, key)
        if self._marked or self._credit_bytes:
            self._news.set()

    async def _write(self, stream: ReplicaStream) -> None:
        """Asks for what is marked, for so many at a time. Ends at the first failure, which the reader meets too."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                marked, self._marked = self._marked, {}
                credit_bytes, self._credit_bytes = self._credit_bytes, 0
                keys = tuple(marked)
                for first in range(0, max(1, len(keys)), REQUEST_PARTITIONS_MAX):
                    some = keys[first : first + REQUEST_PARTITIONS_MAX]
                    await stream.write(self._session.request(self._broker_epoch(), some, credit_bytes))
                    credit_bytes = 0
        except NetworkError as error:
            logger.debug("replica_stream_write_failed leader=%d error=%s", self.leader_id, error)
            await stream.close()
