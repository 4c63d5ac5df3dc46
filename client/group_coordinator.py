"""Finds the coordinator of a group and asks it, again and again where that may help.

Which broker coordinates a group changes when the leader of its partition of __consumer_offsets does. So whatever says
that this broker is not, or no longer, the one (NOT_COORDINATOR, a broken connection, no answer in time) makes the next
call ask for it anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from ..proto.broker_pb2 import FindCoordinatorRequest, FindCoordinatorResponse
from ..proto.errors import (
    CoordinatorNotAvailableError,
    ErrorCode,
    KafkaError,
    KafkaTimeoutError,
    NetworkError,
    NodeNotReadyError,
    NotCoordinatorError,
    RequestTimedOutError,
    error_for,
)
from .backoff import Backoff
from .cluster_client import ClusterClient
from .metadata_cache import BrokerAddress
from .transport import call

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_FIND_TIMEOUT_MS: Final = 5000
_FIND_ATTEMPT_MS: Final = 1500
_CALL_TIMEOUT_MS: Final = 3000
"""Of one try: a coordinator that hangs is asked for anew by then."""
_WATCH_S: Final = 3.0
_ANOTHER_COORDINATOR: Final = (NetworkError, NodeNotReadyError, RequestTimedOutError, NotCoordinatorError)
_MOVED: Final = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})


class GroupCoordinatorClient:
    """The way to one group's coordinator; lives on one event loop."""

    def __init__(self, cluster: ClusterClient, group_id: str) -> None:
        self.group_id = group_id
        self._cluster = cluster
        self._address: BrokerAddress | None = None
        self._finding: asyncio.Task[BrokerAddress] | None = None

    @property
    def address(self) -> BrokerAddress | None:
        """The coordinator, as far as it is known."""
        return self._address

    async def close(self) -> None:
        """Ends the search under way."""
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)

    async def call(self, name: str, request: Any, timeout_ms: float = _CALL_TIMEOUT_MS) -> Any:
        """One call, to the coordinator as far as it is known. :raises KafkaError: no coordinator, or no answer."""
        address = self._address or await self._find()
        try:
            return await call(getattr(self._cluster.channels.stub(address), name), request, timeout_ms)
        except _ANOTHER_COORDINATOR:
            self._forget(address)
            raise

    async def call_patiently(self, name: str, request: Any, timeout_ms: float) -> Any:
        """One call that the coordinator may answer after minutes; given up once another coordinates the group.

        :raises NotCoordinatorError: another coordinates the group. :raises KafkaError: no coordinator, or no answer.
        """
        task = asyncio.ensure_future(self.call(name, request, timeout_ms))
        try:
            while not (await asyncio.wait({task}, timeout=_WATCH_S))[0]:
                if await self._has_moved():
                    raise NotCoordinatorError(f"the coordinator of group {self.group_id!r} has moved")
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def retrying(self, what: str, attempt: Callable[[], Awaitable[Answer]], timeout_ms: float) -> Answer:
        """Tries until it works, it fails for good, or the time is up.

        :raises KafkaTimeoutError: the time is up; says what went wrong last. :raises KafkaError: no retry mends it.
        """
        deadline_ms = self._cluster.clock.monotonic_ms() + timeout_ms
        backoff = Backoff(self._cluster.random)
        while True:
            try:
                return await attempt()
            except KafkaError as error:
                if not error.retriable:
                    raise
                self.note(error.error_code)
                wait_ms = backoff.next_ms()
                if self._cluster.clock.monotonic_ms() + wait_ms >= deadline_ms:
                    raise KafkaTimeoutError(f"{what} of group {self.group_id!r}: {error}") from None
                logger.debug("group_call_failed group=%s what=%s error=%s", self.group_id, what, error)
            await asyncio.sleep(wait_ms / 1000)

    def note(self, error: ErrorCode) -> None:
        """Takes note of an error that an answer bore."""
        if error in _MOVED:
            self._address = None

    def _forget(self, address: BrokerAddress) -> None:
        if self._address == address:
            self._address = None

    async def _has_moved(self) -> bool:
        before = self._address
        try:
            found = await self._find()
        except KafkaError as error:
            logger.debug("coordinator_not_found group=%s error=%s", self.group_id, error)
            return False
        return found != before

    async def _find(self) -> BrokerAddress:
        """Asks who coordinates the group, with others who want that too."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.get_running_loop().create_task(self._ask())
            self._finding.add_done_callback(_take_note)
        return await asyncio.shield(self._finding)

    async def _ask(self) -> BrokerAddress:
        self._address = await find_coordinator(self._cluster, self.group_id)
        logger.info("coordinator_found group=%s broker=%s", self.group_id, self._address)
        return self._address


async def find_coordinator(
    cluster: ClusterClient, group_id: str, timeout_ms: float = _FIND_TIMEOUT_MS
) -> BrokerAddress:
    """Where a group's coordinator is. :raises CoordinatorNotAvailableError: nobody coordinates it at the moment."""
    request = FindCoordinatorRequest(group_ids=[group_id])
    response: FindCoordinatorResponse = await cluster.call_any(
        "FindCoordinator", request, timeout_ms, attempt_ms=_FIND_ATTEMPT_MS
    )
    for found in response.coordinators:
        if found.group_id == group_id:
            if found.error_code:
                raise error_for(found.error_code, found.error_message or f"no coordinator of group {group_id!r}")
            return BrokerAddress(found.host, found.port)
    raise CoordinatorNotAvailableError(f"no coordinator of group {group_id!r} was told")


def _take_note(task: asyncio.Task[BrokerAddress]) -> None:
    if not task.cancelled():
        task.exception()  # who waits for it is told; if nobody does any more, it is no news
