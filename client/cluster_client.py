"""Finds brokers and asks them: metadata from whoever answers first, calls to one broker, calls to any.

A broker may be dead (refuses at once), hung (never answers) or cut off (answers from the past). So metadata is asked of
one broker, then of another too when the first is slow, and each answer goes through MetadataCache, which takes none
that is older than what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from random import Random
from typing import Any, Final, TypeVar

from ..proto.broker_pb2 import MetadataRequest, MetadataResponse
from ..proto.errors import KafkaError, NodeNotReadyError
from .backoff import Backoff
from .config import CommonConfig
from .metadata_cache import BrokerAddress, MetadataCache
from .system_clock import SystemClock
from .transport import Channels, call

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_METADATA_TIMEOUT_MS: Final = 1500
_HEDGE_AFTER_S: Final = 0.1
"""A broker that has not told its metadata by then gets company."""


_SHARE: Final = 5
"""A client that waits for news spends no more than one part in so many on taking metadata in."""


class ClusterClient:
    """One client's view of the cluster; lives on one event loop."""

    def __init__(self, config: CommonConfig, *, clock: SystemClock | None = None, random: Random | None = None) -> None:
        self.cache = MetadataCache()
        self.clock = clock or SystemClock()
        self.random = random or Random()
        self.channels = Channels(config.client_id)
        self.allow_auto_create_topics = False
        self.topics: set[str] | None = set()  # kept fresh; None: all
        self.on_change: list[Callable[[], None]] = []
        self.refreshed_at_ms = -1
        self._update_took_ms = 0  # to take in the last answer
        self._config = config
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_topics: set[str] | None = set()
        self._closed = False
        self._last_asked: BrokerAddress | None = None
        self._last_answered: BrokerAddress | None = None

    async def close(self) -> None:
        """Ends the refresh under way and closes the channels."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self.channels.close()

    async def refresh(self, only: Collection[str] = ()) -> None:
        """Asks for metadata now, with others who want that too: of every topic kept fresh, or `only` of some.

        A program that uses a thousand topics asks for each when it first uses it, not for all of them a thousand times
        (KIP-526). :raises KafkaError: if no broker answers.
        """
        topics = set(only) if only else self.topics
        while self._refreshing is not None and not self._refreshing.done():
            running = self._refreshing
            if self._refresh_topics is None or (topics is not None and self._refresh_topics >= topics):
                await asyncio.shield(running)
                return
            await asyncio.wait([running])
        self._refresh_topics = topics
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh(topics))
        await asyncio.shield(self._refreshing)

    def pause_ms(self, wanted_ms: float) -> float:
        """How long to wait before the next refresh: `wanted_ms`, or longer where there is much to tell.

        With thousands of partitions an answer costs brokers and this client as much as the failover it asks about.
        """
        return max(wanted_ms, _SHARE * self._update_took_ms)

    async def _refresh(self, topics: set[str] | None) -> None:
        request = MetadataRequest(
            topics=sorted(topics or ()),
            all_topics=topics is None,
            allow_auto_topic_creation=self.allow_auto_create_topics,
        )
        response = await self._first_metadata(request)
        if topics is None or (self.topics is not None and topics >= self.topics):
            self.refreshed_at_ms = self.clock.monotonic_ms()
        began_ms = self.clock.monotonic_ms()
        if self.cache.update(response, asked=topics):
            self.notify()
        self._update_took_ms = self.clock.monotonic_ms() - began_ms

    def notify(self) -> None:
        """Tells who listens that the cache has changed."""
        for listener in self.on_change:
            listener()

    async def _first_metadata(self, request: MetadataRequest) -> MetadataResponse:
        """The first answer of several brokers, each asked when the one before is slow or has failed."""
        pending: set[asyncio.Task[tuple[BrokerAddress, MetadataResponse]]] = set()
        error: KafkaError | None = None
        try:
            for address in self._candidates():
                task = asyncio.ensure_future(self._metadata_of(address, request))
                task.add_done_callback(_take_note)  # another may have answered first: then nobody asks
                pending.add(task)
                self._last_asked = address
                done, pending = await asyncio.wait(pending, timeout=_HEDGE_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
                answer, error = _outcome(done, error)
                if answer is not None:
                    self._last_answered, response = answer
                    return response
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                answer, error = _outcome(done, error)
                if answer is not None:
                    self._last_answered, response = answer
                    return response
        finally:
            for task in pending:
                task.cancel()
        asked = ", ".join(str(address) for address in self._candidates())
        raise NodeNotReadyError(f"no broker answers at {asked}: {error}")

    async def _metadata_of(
        self, address: BrokerAddress, request: MetadataRequest
    ) -> tuple[BrokerAddress, MetadataResponse]:
        method: Callable[..., Awaitable[MetadataResponse]] = self.channels.stub(address).GetMetadata
        return address, await call(method, request, _METADATA_TIMEOUT_MS)

    def _candidates(self) -> list[BrokerAddress]:
        """Brokers to ask, each once, the one that was asked last at the end: two cut-off answers in a row are rare."""
        known = [BrokerAddress(broker.host, broker.port) for broker in self.cache.brokers.values()]
        self.random.shuffle(known)
        bootstrap = [address for address in self._config.bootstrap_servers if address not in known]
        addresses = list(dict.fromkeys(known + bootstrap))
        if self._last_asked in addresses and len(addresses) > 1:
            addresses.remove(self._last_asked)
            addresses.append(self._last_asked)
        return addresses

    async def _live_first(self) -> list[BrokerAddress]:
        """As `_candidates`, but one that is known to be alive comes first."""
        if self._last_answered is None:
            await self.refresh()
        addresses = self._candidates()
        if self._last_answered in addresses:
            addresses.remove(self._last_answered)
            addresses.insert(0, self._last_answered)
        return addresses

    async def call_broker(self, broker_id: int, name: str, request: Any, timeout_ms: float) -> Any:
        """One call to one broker. :raises NodeNotReadyError: the broker is not known or not alive."""
        address = self.cache.address_of(broker_id)
        if address is None:
            raise NodeNotReadyError(f"broker {broker_id} is not known or not alive")
        return await call(getattr(self.channels.stub(address), name), request, timeout_ms)

    async def call_any(self, name: str, request: Any, timeout_ms: float, *, attempt_ms: float | None = None) -> Any:
        """One call that any broker can answer, tried at one after the other until the time is up.

        The first is one that has just told its metadata, so that a hung one is not met by chance. `attempt_ms`
        goes on to the next broker after that time: only for calls that may be carried out twice.

        :raises KafkaError: the last failure, or one that no retry mends.
        """
        deadline_ms = self.clock.monotonic_ms() + timeout_ms
        backoff = Backoff(self.random)
        error: KafkaError = NodeNotReadyError("no broker could be asked")
        while True:
            try:
                for address in await self._live_first():
                    remaining_ms = deadline_ms - self.clock.monotonic_ms()
                    if remaining_ms <= 0:
                        break
                    try:
                        method = getattr(self.channels.stub(address), name)
                        return await call(method, request, min(remaining_ms, attempt_ms or remaining_ms))
                    except KafkaError as failure:
                        if not failure.retriable:
                            raise
                        logger.debug("call_failed call=%s broker=%s error=%s", name, address, failure)
                        error = failure
            except NodeNotReadyError as failure:
                error = failure
            self._last_answered = None
            wait_ms = backoff.next_ms()
            if self.clock.monotonic_ms() + wait_ms >= deadline_ms:
                raise error
            await asyncio.sleep(wait_ms / 1000)


def _take_note(task: asyncio.Task[tuple[BrokerAddress, MetadataResponse]]) -> None:
    if not task.cancelled():
        task.exception()


def _outcome(
    done: set[asyncio.Task[tuple[BrokerAddress, MetadataResponse]]], error: KafkaError | None
) -> tuple[tuple[BrokerAddress, MetadataResponse] | None, KafkaError | None]:
    for task in done:
        failure = task.exception()
        if failure is None:
            return task.result(), error
        if not isinstance(failure, KafkaError):
            raise failure
        error = failure
    return None, error
