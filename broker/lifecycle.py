"""A broker's life as the controllers see it: registration, heartbeats, controlled shutdown (KIP-631).

    from                         to                           when
    NOT_RUNNING                  STARTING                     `start`
    STARTING                     RECOVERY                     its own registration has been replayed
    RECOVERY                     RUNNING                      its image shows the registration unfenced
    RUNNING                      STARTING                     the controllers no longer know its epoch; it registers
    STARTING, RECOVERY, RUNNING  PENDING_CONTROLLED_SHUTDOWN  `controlled_shutdown`
    PENDING_CONTROLLED_SHUTDOWN  SHUTTING_DOWN                the controller said so, or time ran out
    any                          NOT_RUNNING                  `stop`

A broker that was merely fenced (it was slow or cut off) keeps its epoch and its state; its heartbeats get it unfenced.
Where Kafka goes on sending heartbeats under an epoch that is refused for good, this registers the same incarnation
anew: the new epoch fences all that was under way under the old one (rule 11).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import grpc
import grpc.aio

from ..cluster.clock import Clock
from ..cluster.image import Endpoint, MetadataImage
from ..proto import metadata_pb2
from ..proto.command_pb2 import Command, CommandResponse, RegisterBrokerCommand
from ..proto.controller_pb2 import BrokerHeartbeat, BrokerHeartbeatAnswer
from ..proto.errors import DuplicateBrokerRegistrationError, ErrorCode, KafkaTimeoutError, error_for
from ..proto.identifiers import NONE_ID, BrokerEpoch, BrokerId
from .controller_client import ActiveController, ControllerClient, ControllerReplacedError, end, jittered

logger = logging.getLogger(__name__)

REGISTRATION_TIMEOUT_MS: Final = 60_000
DUPLICATE_TIMEOUT_MS: Final = 10_000
DUPLICATE_PAUSE_MS: Final = 50
REGISTER_AGAIN: Final = frozenset({ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED})

BrokerSessionCall = grpc.aio.StreamStreamCall[BrokerHeartbeat, BrokerHeartbeatAnswer]


class BrokerState(Enum):
    """Where the broker is in its life."""

    NOT_RUNNING = "not running"
    STARTING = "starting"
    RECOVERY = "recovery"
    RUNNING = "running"
    PENDING_CONTROLLED_SHUTDOWN = "pending controlled shutdown"
    SHUTTING_DOWN = "shutting down"


@dataclass(frozen=True)
class Registration:
    """What a broker says of itself when it registers."""

    broker_id: BrokerId
    incarnation_id: bytes
    cluster_id: str | None
    endpoints: Mapping[str, Endpoint]
    rack: str | None
    log_dir_id: bytes

    def command(self, previous: BrokerEpoch | None, killed: BrokerEpoch | None) -> Command:
        """The command that registers it; `previous` and `killed` are the epochs of `BrokerLifecycle.start`."""
        return Command(
            register_broker=RegisterBrokerCommand(
                broker_id=self.broker_id,
                incarnation_id=self.incarnation_id,
                cluster_id=self.cluster_id or "",
                endpoints=[
                    metadata_pb2.Endpoint(name=name, host=endpoint.host, port=endpoint.port)
                    for name, endpoint in self.endpoints.items()
                ],
                rack=self.rack or "",
                previous_broker_epoch=NONE_ID if previous is None else previous,
                killed_broker_epoch=killed,
                log_dir_id=self.log_dir_id,
            )
        )


class BrokerLifecycle:
    """Lives on one event loop. Tell it of every image the broker has acted on: `metadata_applied`."""

    def __init__(
        self,
        controller_client: ControllerClient,
        clock: Clock,
        *,
        heartbeat_interval_ms: int,
        on_fatal: Callable[[Exception], None],
        registration_timeout_ms: int = REGISTRATION_TIMEOUT_MS,
        duplicate_timeout_ms: int = DUPLICATE_TIMEOUT_MS,
    ) -> None:
        """`on_fatal` is told when the broker cannot go on: its id was taken, or it is of another cluster."""
        self._client = controller_client
        self._clock = clock
        self._interval_ms = heartbeat_interval_ms
        # A controller that hangs answers nothing and breaks nothing.
        self._answer_timeout_ms = 2 * heartbeat_interval_ms + 250
        self._on_fatal = on_fatal
        self._registration_timeout_ms = registration_timeout_ms
        self._duplicate_timeout_ms = duplicate_timeout_ms
        self._registration: Registration | None = None
        self._on_registered: Callable[[BrokerEpoch], Awaitable[None]] | None = None
        self._broker_epoch: BrokerEpoch | None = None
        self._image = MetadataImage.empty()
        self._ready_to_unfence = False
        self._want_shutdown = False
        self._state = BrokerState.NOT_RUNNING
        self._state_changed = asyncio.Event()
        self._wake = asyncio.Event()  # there is something new to tell the controller
        self._answered_ms: int | None = None  # when a controller last said that this broker is not fenced
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> BrokerState:
        """Where the broker is in its life."""
        return self._state

    @property
    def broker_epoch(self) -> BrokerEpoch:
        """The epoch of the latest registration; every request that speaks for this broker bears it (rule 11)."""
        if self._broker_epoch is None:
            raise RuntimeError("the broker has not registered yet")
        return self._broker_epoch

    @property
    def is_in_touch(self) -> bool:
        """True while a controller has just said that this broker is not fenced.

        A broker that was cut off or stopped may be fenced, and others lead in its place, before it hears of it. It has
        this to go by, and the default session time-out is longer than the wait for an answer.
        """
        answered_ms = self._answered_ms
        return answered_ms is not None and self._clock.monotonic_ms() - answered_ms <= self._answer_timeout_ms

    async def start(
        self,
        registration: Registration,
        previous_broker_epoch: BrokerEpoch | None,
        *,
        killed_broker_epoch: BrokerEpoch | None = None,
        on_registered: Callable[[BrokerEpoch], Awaitable[None]] | None = None,
    ) -> str:
        """Registers and begins to send heartbeats; returns the id of the cluster.

        `previous_broker_epoch` is that of the last stop if it was in good order, else None (KIP-966); after a stop that
        was not, `killed_broker_epoch` is that of the process if its logs are whole all the same. `on_registered` is
        waited for after every registration, before anything is done under its epoch.

        :raises KafkaTimeoutError: no active controller answered in time
        :raises DuplicateBrokerRegistrationError: another process lives under this id
        :raises InconsistentClusterIdError: the log folder belongs to another cluster
        :raises KafkaError: the controllers refused for another reason
        """
        self._registration = registration
        self._on_registered = on_registered
        self._enter(BrokerState.STARTING)
        cluster_id = await self._register(
            previous_broker_epoch, killed_broker_epoch, timeout_ms=self._registration_timeout_ms
        )
        self._task = asyncio.create_task(self._run(), name="broker-heartbeats")
        return cluster_id

    def ready_to_unfence(self) -> None:
        """The broker can serve: from now on its heartbeats ask to be unfenced."""
        self._ready_to_unfence = True
        self._wake.set()

    def metadata_applied(self, image: MetadataImage) -> None:
        """The broker has acted on this image."""
        before, self._image = self._image, image
        if self._registration is None or self._broker_epoch is None:
            return
        # The one heartbeat that lets the controller unfence this broker does not wait for its time; nor do those on
        # which another broker's controlled shutdown waits (it ends when all have seen the leaders move).
        passed = before.end_offset <= self._broker_epoch < image.end_offset
        if passed or any(broker.in_controlled_shutdown for broker in image.brokers.values()):
            self._wake.set()
        own = image.brokers.get(self._registration.broker_id)
        if own is None or own.broker_epoch != self._broker_epoch:
            return
        if self._state is BrokerState.STARTING:
            self._enter(BrokerState.RECOVERY)
        if self._state is BrokerState.RECOVERY and not own.fenced:
            self._enter(BrokerState.RUNNING)

    async def wait_until_running(self, timeout_ms: int) -> bool:
        """True once the broker is unfenced and its image says so; False if that takes longer."""
        return await self._wait_until(lambda: self._state is BrokerState.RUNNING, timeout_ms)

    async def controlled_shutdown(self, timeout_ms: int) -> bool:
        """Has the controller move this broker's leaderships away; keep serving meanwhile (rule 26).

        False if they could not all be moved in time.
        """
        if self._task is None or self._task.done():
            return False
        self._want_shutdown = True
        self._wake.set()
        self._enter(BrokerState.PENDING_CONTROLLED_SHUTDOWN)
        done = await self._wait_until(lambda: self._state is BrokerState.SHUTTING_DOWN, timeout_ms)
        if not done:
            logger.warning("controlled_shutdown_timed_out broker=%d timeout_ms=%d", self._id(), timeout_ms)
            self._enter(BrokerState.SHUTTING_DOWN)
        return done

    async def stop(self) -> None:
        """Ends the heartbeats; the controllers fence the broker if they have not done so."""
        if self._task is not None:
            await end(self._task)
        self._enter(BrokerState.NOT_RUNNING)

    async def _run(self) -> None:
        """The outermost loop of the heartbeats: one session after the other."""
        try:
            while True:
                active = await self._client.active()
                try:
                    if await self._client.while_active(active, self._session(active)) in REGISTER_AGAIN:
                        await self._register_again()
                    else:
                        self._client.report_failure(active, "the broker's session ended")
                except ControllerReplacedError:
                    continue
                except grpc.aio.AioRpcError as error:
                    self._client.report_failure(active, f"the broker's session broke: {error.code().name}")
                    await asyncio.sleep(jittered(10) / 1000)
        except Exception as error:  # outermost: a broker without heartbeats must not linger
            logger.error("broker_lifecycle_failed broker=%d", self._id(), exc_info=error)
            self._on_fatal(error)

    async def _session(self, active: ActiveController) -> ErrorCode:
        """Heartbeats over one stream until it ends; the error that ended it, NONE if it was closed."""
        epoch = self.broker_epoch
        call: BrokerSessionCall = active.link.stub.BrokerSession()
        sender = asyncio.create_task(self._send(call, epoch))
        try:
            while True:
                answer = await self._next_answer(active, call)
                if answer is None:
                    return ErrorCode.NONE
                code = ErrorCode.of(answer.error_code)
                if code is not ErrorCode.NONE:
                    logger.info("heartbeat_refused broker=%d epoch=%d error=%s", self._id(), epoch, code.name)
                    return code
                self._answered_ms = None if answer.is_fenced else self._clock.monotonic_ms()
                if answer.should_shut_down and self._state is BrokerState.PENDING_CONTROLLED_SHUTDOWN:
                    self._enter(BrokerState.SHUTTING_DOWN)
        finally:
            self._answered_ms = None  # the controllers may fence a broker soon after its stream broke
            call.cancel()
            await end(sender)

    async def _next_answer(self, active: ActiveController, call: BrokerSessionCall) -> BrokerHeartbeatAnswer | None:
        """The next answer, however long it takes; None if the stream ended."""
        read = asyncio.ensure_future(_read(call))
        try:
            while not (await asyncio.wait({read}, timeout=self._answer_timeout_ms / 1000))[0]:
                self._client.suspect(active)
            return await read
        finally:
            await end(read)  # also where it has failed, and who waits for it is called off just then

    async def _send(self, call: BrokerSessionCall, epoch: BrokerEpoch) -> None:
        while True:
            self._wake.clear()
            await call.write(
                BrokerHeartbeat(
                    broker_id=self._id(),
                    broker_epoch=epoch,
                    metadata_end_offset=self._image.end_offset,
                    want_shutdown=self._want_shutdown,
                    want_fence=not self._ready_to_unfence,
                )
            )
            try:
                async with asyncio.timeout(self._interval_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _register_again(self) -> None:
        logger.warning("broker_registering_again broker=%d old_epoch=%d", self._id(), self.broker_epoch)
        if self._state in (BrokerState.RECOVERY, BrokerState.RUNNING):
            self._enter(BrokerState.STARTING)
        await self._register(self._broker_epoch, None, timeout_ms=None)

    async def _register(
        self, previous: BrokerEpoch | None, killed: BrokerEpoch | None, *, timeout_ms: int | None
    ) -> str:
        """Registers, however often it takes; without a time-out it waits for the controllers for ever."""
        assert self._registration is not None
        started_ms = self._clock.monotonic_ms()
        duplicate_since_ms: int | None = None
        while True:
            now_ms = self._clock.monotonic_ms()
            remaining_ms = 60_000 if timeout_ms is None else started_ms + timeout_ms - now_ms
            # Each try is a new command: the answer to the last one is known.
            response = await self._client.submit(self._registration.command(previous, killed), timeout_ms=remaining_ms)
            code = ErrorCode.of(response.error_code)
            if code is ErrorCode.NONE:
                if self._on_registered is not None:
                    await self._on_registered(BrokerEpoch(response.register_broker.broker_epoch))
                return self._registered(response)
            if code is ErrorCode.DUPLICATE_BROKER_REGISTRATION:
                now_ms = self._clock.monotonic_ms()  # the answer may have been long in coming: no controller was active
                duplicate_since_ms = now_ms if duplicate_since_ms is None else duplicate_since_ms
                if now_ms - duplicate_since_ms > self._duplicate_timeout_ms:
                    raise DuplicateBrokerRegistrationError(
                        f"broker id {self._id()} is taken: another live process is registered under it "
                        f"({response.error_message or 'its session goes on'}); stop that one, or give this one another "
                        "node.id and log.dirs"
                    )
                await asyncio.sleep(jittered(DUPLICATE_PAUSE_MS) / 1000)
            elif code is not ErrorCode.REQUEST_TIMED_OUT:
                raise error_for(code, response.error_message)
            elif timeout_ms is not None:
                raise KafkaTimeoutError(f"broker {self._id()} could not register: {response.error_message}")

    def _registered(self, response: CommandResponse) -> str:
        result = response.register_broker
        self._broker_epoch = BrokerEpoch(result.broker_epoch)
        logger.info(
            "broker_registered broker=%d epoch=%d cluster=%s", self._id(), result.broker_epoch, result.cluster_id
        )
        self.metadata_applied(self._image)  # the image may have been quicker than the answer
        return result.cluster_id

    def _id(self) -> BrokerId:
        assert self._registration is not None
        return self._registration.broker_id

    def _enter(self, state: BrokerState) -> None:
        if state is self._state:
            return
        logger.info("broker_state from=%s to=%s", self._state.name, state.name)
        self._state = state
        self._state_changed.set()
        self._state_changed.clear()

    async def _wait_until(self, condition: Callable[[], bool], timeout_ms: int) -> bool:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not condition():
                    await self._state_changed.wait()
        except TimeoutError:
            return False
        return True


async def _read(call: BrokerSessionCall) -> BrokerHeartbeatAnswer | None:
    answer = await call.read()
    return answer if isinstance(answer, BrokerHeartbeatAnswer) else None
