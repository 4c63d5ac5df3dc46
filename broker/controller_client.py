"""A broker's way to the controllers: finds the active one, keeps one channel to each, and retries.

A command is sent again under the same request id until it is answered, so it is carried out once however often the
active controller changes or an answer is lost. The active controller is looked for by asking all controllers who they
are; a broken stream starts a new search at once, so that everything that hangs on it (the session, the metadata
stream, commands under way) moves to the next active controller together.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio

from ..cluster.clock import Clock
from ..proto.command_pb2 import Command, CommandResponse
from ..proto.controller_pb2 import DescribeQuorumRequest, DescribeQuorumResponse
from ..proto.controller_pb2_grpc import ControllerStub
from ..proto.errors import ErrorCode, NodeNotReadyError, RetriableError
from ..proto.identifiers import GRPC_MESSAGE_BYTES_MAX, ControllerEpoch, NodeId

if TYPE_CHECKING:
    from ..proto.controller_pb2_grpc import ControllerAsyncStub  # a name of the types alone

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES_MAX),
    # A controller that comes back must be found within a fraction of a second, not after gRPC's default of 1 to 120.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also the time one attempt may take: a busy machine needs more than 50
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
)

PROBE_TIMEOUT_MS: Final = 300
SEARCH_PAUSE_MS: Final = 40
SEARCH_PAUSE_MS_MAX: Final = 400
SEARCH_ROUNDS_FAST: Final = 25  # an election takes less than these rounds
RETRY_PAUSE_MS: Final = 20
RETRY_PAUSE_MS_MAX: Final = 400
ATTEMPT_TIMEOUT_MS: Final = 3_000

# Answers after which the same command is sent again: it was not carried out, or whether it was is not known.
_RETRIED: Final = frozenset(
    {ErrorCode.NOT_CONTROLLER, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.THROTTLING_QUOTA_EXCEEDED}
)

# gRPC failures that say nothing about the request itself.
_TRANSIENT: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    }
)


class ControllerReplacedError(RetriableError):
    """The controller that this was for is no longer the active one, as far as this broker knows."""

    error_code = ErrorCode.NOT_CONTROLLER


class ControllerLink:
    """The channel to one controller."""

    def __init__(self, host: str, port: int) -> None:
        self.address: Final = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        self.stub: Final[ControllerAsyncStub] = ControllerStub(self._channel)

    async def close(self) -> None:
        """Breaks off all that is under way on it."""
        await self._channel.close()


@dataclass(frozen=True, eq=False, slots=True)
class ActiveController:
    """The active controller of one epoch; compared by identity."""

    controller_id: NodeId
    controller_epoch: ControllerEpoch
    link: ControllerLink


class ControllerClient:
    """Lives on one event loop."""

    def __init__(self, bootstrap: Sequence[tuple[str, int]], clock: Clock) -> None:
        self._clock = clock
        self._links = {address: ControllerLink(*address) for address in dict.fromkeys(map(tuple_of, bootstrap))}
        self._active: ActiveController | None = None
        self._epoch_seen = 0
        self._changed = asyncio.Event()
        self._search: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, command: Command, *, timeout_ms: int) -> CommandResponse:
        """Has the active controller carry out a command, once.

        Gives up after `timeout_ms` with the answer REQUEST_TIMED_OUT: whether it took effect is then not known. Every
        other error is the controllers' own answer.
        """
        if not command.request_id:
            command.request_id = uuid.uuid4().bytes
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        pause_ms = RETRY_PAUSE_MS
        while True:
            remaining_ms = deadline_ms - self._clock.monotonic_ms()
            if remaining_ms <= 0:
                return CommandResponse(
                    error_code=ErrorCode.REQUEST_TIMED_OUT,
                    error_message=f"no answer from an active controller within {timeout_ms} ms ({self._addresses()})",
                    active_controller_id=-1,
                )
            response = await self._attempt(command, remaining_ms)
            if response is not None and response.error_code not in _RETRIED:
                return response
            await asyncio.sleep(min(pause_ms, max(deadline_ms - self._clock.monotonic_ms(), 0)) / 1000)
            pause_ms = min(jittered(pause_ms * 2), RETRY_PAUSE_MS_MAX)

    async def _attempt(self, command: Command, timeout_ms: int) -> CommandResponse | None:
        """The answer of the controller that is active now; None if there was none."""
        try:
            active = await self.active(timeout_ms=timeout_ms)
        except NodeNotReadyError:
            return None
        attempt_ms = min(timeout_ms, ATTEMPT_TIMEOUT_MS)
        try:
            response = await self.while_active(
                active, _call(active.link.stub.Submit(command, timeout=attempt_ms / 1000))
            )
        except ControllerReplacedError:
            return None
        except grpc.aio.AioRpcError as error:
            if error.code() not in _TRANSIENT:
                return CommandResponse(
                    error_code=ErrorCode.UNKNOWN_SERVER_ERROR,
                    error_message=f"controller {active.link.address}: {error.code().name}: {error.details()}",
                    active_controller_id=-1,
                )
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self.report_failure(active, f"submit: {error.code().name}")
            else:
                self.suspect(active)  # busy, hung, or failed at this one call: what else hangs on it may be well
            return None
        if response.error_code == ErrorCode.NOT_CONTROLLER:
            self.report_failure(active, "it is not active")
        return response

    async def describe_quorum(self, *, timeout_ms: int = 1_000) -> DescribeQuorumResponse | None:
        """The quorum as the active controller sees it, or else as any controller does; None if none answers."""
        active = self._active
        links = [active.link] if active is not None else []
        links += [link for link in self._links.values() if link not in links]
        for link in links:
            response = await _probe(link, timeout_ms)
            if response is not None:
                return response
        return None

    async def active(self, *, timeout_ms: int | None = None) -> ActiveController:
        """The active controller; waits for one if there is none.

        :raises NodeNotReadyError: none was found in time
        """
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                while self._active is None:
                    self._start_search()
                    await self._changed.wait()
                return self._active
        except TimeoutError:
            raise NodeNotReadyError(
                f"no active controller found within {timeout_ms} ms ({self._addresses()})"
            ) from None

    def report_failure(self, active: ActiveController, reason: str) -> None:
        """Somebody saw the active controller fail or say that it is not active: looks for the next one."""
        if self._active is not active or self._closed:
            return
        logger.info(
            "controller_lost controller=%d epoch=%d address=%s reason=%s",
            active.controller_id,
            active.controller_epoch,
            active.link.address,
            reason,
        )
        self._active = None
        self._wake()
        self._start_search()

    def suspect(self, active: ActiveController) -> None:
        """The active controller has been silent for a while. Others are asked; if none of them is active it may just
        be busy, and what hangs on it stays: breaking off its sessions would make things worse."""
        if self._active is active:
            self._start_search()

    async def while_active(self, active: ActiveController, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` and returns its result; stops it when `active` is no longer the active controller.

        :raises ControllerReplacedError: it was stopped
        """
        task = asyncio.ensure_future(work)
        replaced = asyncio.ensure_future(self._replaced(active))
        try:
            await asyncio.wait({task, replaced}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ControllerReplacedError(f"controller {active.controller_id} is no longer the active one")
        finally:
            replaced.cancel()
            await end(task)

    async def close(self) -> None:
        """Closes all channels."""
        self._closed = True
        if self._search is not None:
            await end(self._search)
        for link in self._links.values():
            await link.close()

    async def _replaced(self, active: ActiveController) -> None:
        while self._active is active:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed.clear()

    def _start_search(self) -> None:
        if (self._search is None or self._search.done()) and not self._closed:
            self._search = asyncio.create_task(self._find_active(), name="find-active-controller")

    async def _find_active(self) -> None:
        rounds = 0
        while True:
            found = await self._ask_all()
            if found is not None:
                break
            rounds += 1
            slow = max(0, rounds - SEARCH_ROUNDS_FAST)
            await asyncio.sleep(jittered(min(SEARCH_PAUSE_MS * (1 + slow), SEARCH_PAUSE_MS_MAX)) / 1000)
        current = self._active  # not None: it was suspected
        if current is not None and current.controller_epoch >= found.controller_epoch:
            return
        self._active = found
        self._epoch_seen = max(self._epoch_seen, found.controller_epoch)
        logger.info(
            "controller_found controller=%d epoch=%d address=%s",
            found.controller_id,
            found.controller_epoch,
            found.link.address,
        )
        self._wake()

    async def _ask_all(self) -> ActiveController | None:
        """Asks all controllers at once. A claim to an epoch newer than any seen wins at once; otherwise the newest
        claim when all have answered, so that one that was cut off and does not know it yet is not believed first."""
        best: ActiveController | None = None
        probes = {asyncio.create_task(_probe(link, PROBE_TIMEOUT_MS)): link for link in list(self._links.values())}
        pending: set[asyncio.Task[DescribeQuorumResponse | None]] = set(probes)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for probe in done:
                    answer = probe.result()
                    if answer is None:
                        continue
                    self._learn((node.host, node.port) for node in answer.nodes)
                    if not answer.ready or answer.active_controller_id != answer.controller_id:
                        continue
                    if best is None or answer.controller_epoch > best.controller_epoch:
                        best = ActiveController(
                            NodeId(answer.controller_id), ControllerEpoch(answer.controller_epoch), probes[probe]
                        )
                if best is not None and best.controller_epoch > self._epoch_seen:
                    break
        finally:
            for probe in pending:
                probe.cancel()
        return best

    def _learn(self, addresses: Iterable[tuple[str, int]]) -> None:
        for address in addresses:
            if address[0] and address[1] and address not in self._links:
                self._links[address] = ControllerLink(*address)

    def _addresses(self) -> str:
        return ", ".join(link.address for link in self._links.values())


def tuple_of(address: tuple[str, int]) -> tuple[str, int]:
    """A plain pair, so that a named one is the same key."""
    return (address[0], address[1])


def jittered(milliseconds: int) -> int:
    """Between 0.7 and 1.3 times as long, so that brokers do not ask in step."""
    return max(1, int(milliseconds * random.uniform(0.7, 1.3)))


async def end(task: asyncio.Future[Any]) -> None:
    """Cancels a task and waits until it is over; nobody asks what came of it."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("task_ended_with_error error=%r", error)


async def _call(call: grpc.aio.UnaryUnaryCall[Any, T]) -> T:
    return await call


async def _probe(link: ControllerLink, timeout_ms: int) -> DescribeQuorumResponse | None:
    try:
        return await link.stub.DescribeQuorum(DescribeQuorumRequest(), timeout=timeout_ms / 1000)
    except grpc.aio.AioRpcError as error:
        logger.debug("controller_probe_failed address=%s error=%s", link.address, error.code().name)
        return None
