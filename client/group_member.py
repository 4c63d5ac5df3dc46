"""A consumer's membership on the event loop: carries out what `group_membership.py` decides.

It finds the coordinator, joins, syncs and sends heartbeats by itself. What concerns the user's records waits for the
user's thread: `needs_user` says so, and `rebalance.py`, called by poll(), does it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from ..proto import broker_pb2 as pb
from ..proto.consumer_protocol import (
    CONSUMER_PROTOCOL_TYPE,
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from ..proto.errors import CommitFailedError, ErrorCode, KafkaError
from ..proto.identifiers import TopicPartition
from .assignors import Assignor
from .backoff import Backoff
from .cluster_client import ClusterClient
from .config import ConsumerConfig
from .group_coordinator import GroupCoordinatorClient
from .group_membership import (
    GroupMembership,
    Instructions,
    JoinAnswer,
    MemberState,
    SendHeartbeat,
    SendJoin,
    SendLeave,
    SendSync,
    ShareOut,
    WakeUser,
)
from .group_offsets import CommitDuringRebalanceError
from .group_topics import GroupTopics
from .structs import ConsumerGroupMetadata

logger = logging.getLogger(__name__)

_JOIN_MARGIN_MS: Final = 5000
"""What the coordinator's rebalance time-out gets on top, so that its answer comes before ours (as in Kafka)."""
_LEAVE_TIMEOUT_MS: Final = 2000
_MEMBER_STATES: Final = (MemberState.PREPARING, MemberState.COMPLETING, MemberState.STABLE)


class GroupMember:
    """Lives on the consumer's event loop; what is marked so may be read from the user's thread."""

    def __init__(
        self,
        config: ConsumerConfig,
        cluster: ClusterClient,
        coordinator: GroupCoordinatorClient,
        owned: Callable[[], Iterable[TopicPartition]],
        on_wake: Callable[[], None],
    ) -> None:
        assert config.group_id is not None
        self.group_id = config.group_id
        self.is_cooperative = all(assignor.supports_cooperative for assignor in config.partition_assignment_strategy)
        self._config = config
        self._cluster = cluster
        self._clock = cluster.clock
        self._coordinator = coordinator
        self._owned = owned
        self._on_wake = on_wake
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(cluster.random)
        self._machine = GroupMembership(
            heartbeat_interval_ms=config.heartbeat_interval_ms,
            max_poll_interval_ms=config.max_poll_interval_ms,
            is_static=config.group_instance_id is not None,
            backoff_ms=self._backoff.next_ms,
            backoff_reset=self._backoff.reset,
        )
        self._topics = GroupTopics(config, cluster, config.group_id)
        self.polling = False  # set by the user's thread, as long as it is inside poll()
        self.last_poll_ms = self._clock.monotonic_ms()  # set by the user's thread
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._refresh_task: asyncio.Task[None] | None = None
        self._closed = False
        cluster.on_change.append(self._on_metadata)

    # --- for the user's thread ------------------------------------------------------------------------------------

    @property
    def needs_user(self) -> bool:
        """True if poll() has something to do for the group."""
        machine = self._machine
        if machine.state is MemberState.UNJOINED:
            return self.topics is not None
        return machine.state in (MemberState.PREPARING, MemberState.COMPLETING, MemberState.FENCED)

    @property
    def topics(self) -> frozenset[str] | None:
        """What is subscribed to; None without a subscription."""
        return self._topics.names

    @property
    def state(self) -> MemberState:
        return self._machine.state

    @property
    def lost(self) -> bool:
        """True if what was owned is others' by now."""
        return self._machine.lost

    @property
    def metadata(self) -> ConsumerGroupMetadata:
        """The membership as it is."""
        machine = self._machine
        instance_id = self._config.group_instance_id
        return ConsumerGroupMetadata(self.group_id, machine.generation_id, machine.member_id, instance_id)

    def metadata_for_commit(self) -> ConsumerGroupMetadata:
        """The membership under which to commit now. :raises CommitFailedError: there is none, or a rebalance runs."""
        if self.topics is None:
            return ConsumerGroupMetadata(self.group_id)  # assigned by hand: from outside of the group protocol
        machine = self._machine
        if machine.generation_id is not None and machine.state in _MEMBER_STATES:
            return self.metadata
        if machine.state in (MemberState.JOINING, MemberState.SYNCING):
            raise CommitDuringRebalanceError(f"commit: group {self.group_id!r} rebalances; poll() takes part in it")
        raise CommitFailedError(f"commit: the consumer is no member of group {self.group_id!r} at the moment")

    # --- for poll(), on the loop ----------------------------------------------------------------------------------

    def subscribe(self, topics: frozenset[str], pattern: re.Pattern[str] | None) -> None:
        """Wants to read these topics from now on, or those that the pattern matches."""
        if self._topics.subscribe(topics, pattern):
            self._act(self._machine.rejoin("the subscription has changed"))
        self._act(self._machine.join(self._clock.monotonic_ms()))

    async def join(self) -> KafkaError | None:
        """Tries again after an error; the error if it was not told yet, or stands for good."""
        error = self._machine.error
        if self._machine.state is MemberState.UNJOINED and self.topics is not None:
            if error is not None:
                self._machine.error = None
            else:
                self._act(self._machine.join(self._clock.monotonic_ms()))
        return error

    async def prepared(self, *, lost: bool) -> None:
        """The user's thread has given up what it had to."""
        if self._topics.pattern is not None:
            # So that a new topic, which all members see sooner or later, costs one rebalance.
            await self._topics.refresh()
        self._act(self._machine.prepared(lost=lost))

    def assignment(self) -> ConsumerProtocolAssignment:
        """What the last SyncGroup gave, while it waits to be taken up."""
        data = self._machine.assignment
        return ConsumerProtocolAssignment.decode(data) if data else ConsumerProtocolAssignment(())

    def fits(self, topic: str) -> bool:
        """True if the subscription covers the topic."""
        return self._topics.fits(topic)

    def tell_assignor(self, partitions: list[TopicPartition]) -> None:
        """Hands the new assignment to the assignor that the group uses."""
        generation_id = self._machine.generation_id
        if generation_id is not None:
            self._topics.assignor(self._machine.protocol_name).on_assignment(partitions, generation_id)

    async def rejoin(self, reason: str) -> None:
        """Once the user's thread has taken up the assignment, the group is to rebalance once more."""
        self._act(self._machine.rejoin(reason))

    async def completed(self) -> None:
        """The user's thread has taken up the assignment."""
        self._act(self._machine.completed(self._clock.monotonic_ms()))
        self._on_metadata()  # what changed while it synced was not looked at

    async def leave(self, reason: str) -> None:
        """Ends the membership; a static member's place is kept."""
        self._topics.unsubscribe()
        instructions = self._machine.leave(reason)
        await self._cancel_tasks()
        for instruction in instructions:
            if isinstance(instruction, SendLeave):
                await self._leave(instruction)

    async def close(self) -> None:
        """Ends what is under way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._cancel_tasks()

    async def _cancel_tasks(self) -> None:
        tasks = [*self._tasks, *([self._refresh_task] if self._refresh_task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def commit_refused(self, member: ConsumerGroupMetadata, error: ErrorCode) -> None:
        """A commit told of a change of the membership."""
        if member.generation_id is not None:
            self._act(self._machine.commit_refused(member.generation_id, error))

    # --- instructions ---------------------------------------------------------------------------------------------

    def _act(self, instructions: Instructions) -> None:
        for instruction in instructions:
            match instruction:
                case SendJoin():
                    self._start(self._join(instruction))
                case ShareOut():
                    self._start(self._share_out(instruction))
                case SendSync():
                    self._start(self._sync(instruction))
                case SendHeartbeat():
                    self._start(self._heartbeat(instruction))
                case SendLeave():
                    self._start(self._leave(instruction))
                case WakeUser():
                    self._on_wake()
        self._arm()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.error("group_task_failed group=%s error=%r", self.group_id, failure, exc_info=failure)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed or self.topics is None:
            return
        due_ms = self._machine.next_deadline_ms()
        if not self._refreshes:  # its end arms the timer anew: until then the metadata's age is nothing to wake up for
            old_ms = self._cluster.refreshed_at_ms + self._config.metadata_max_age_ms
            due_ms = old_ms if due_ms is None else min(due_ms, old_ms)
        if due_ms is not None:
            wait_ms = max(1, due_ms - self._clock.monotonic_ms())
            self._timer = self._loop.call_later(wait_ms / 1000, self._on_timer)

    @property
    def _refreshes(self) -> bool:
        return self._refresh_task is not None and not self._refresh_task.done()

    def _on_timer(self) -> None:
        self._timer = None
        now_ms = self._clock.monotonic_ms()
        self._machine.polled(now_ms if self.polling else self.last_poll_ms)
        age_ms = now_ms - self._cluster.refreshed_at_ms
        if age_ms >= self._config.metadata_max_age_ms and not self._refreshes:
            self._refresh_task = self._loop.create_task(self._refresh_and_rest())
        self._act(self._machine.tick(now_ms))

    async def _join(self, instruction: SendJoin) -> None:
        config = self._config
        logger.info("group_joining group=%s member=%s why=%s", self.group_id, instruction.member_id, instruction.reason)
        request = pb.JoinGroupRequest(
            group_id=self.group_id,
            member_id=instruction.member_id,
            group_instance_id=config.group_instance_id or "",
            client_id=config.client_id,
            protocol_type=CONSUMER_PROTOCOL_TYPE,
            session_timeout_ms=config.session_timeout_ms,
            rebalance_timeout_ms=config.max_poll_interval_ms,
            reason=instruction.reason,
        )
        try:
            for assignor in config.partition_assignment_strategy:
                try:
                    metadata = self._subscription(assignor).encode()
                except Exception as error:  # as with `_share_out`: poll() tells of it
                    raise KafkaError(f"assignor {assignor.name!r} failed: {error!r}") from error
                request.protocols.append(pb.GroupProtocol(name=assignor.name, metadata=metadata))
            timeout_ms = config.max_poll_interval_ms + _JOIN_MARGIN_MS
            response: pb.JoinGroupResponse = await self._coordinator.call_patiently("JoinGroup", request, timeout_ms)
            answer = _join_answer(response)
        except KafkaError as error:
            logger.info("group_join_failed group=%s error=%s", self.group_id, error)
            answer = JoinAnswer(_code_of(error), str(error))
        self._coordinator.note(answer.error)
        self._act(self._machine.join_answered(instruction.attempt, answer, self._clock.monotonic_ms()))

    def _subscription(self, assignor: Assignor) -> ConsumerProtocolSubscription:
        topics = tuple(sorted(self.topics or ()))
        return ConsumerProtocolSubscription(
            topics=topics,
            user_data=assignor.user_data(topics),
            owned_partitions=tuple(sorted(self._owned())),
            generation_id=self._machine.owned_generation_id,
        )

    async def _sync(self, instruction: SendSync) -> None:
        request = pb.SyncGroupRequest(
            group_id=self.group_id,
            generation_id=instruction.generation_id,
            member_id=instruction.member_id,
            group_instance_id=self._config.group_instance_id or "",
            protocol_type=CONSUMER_PROTOCOL_TYPE,
            protocol_name=instruction.protocol_name,
            assignments=[
                pb.MemberAssignment(member_id=member_id, assignment=assignment)
                for member_id, assignment in instruction.assignments.items()
            ],
        )
        code, message, assignment = ErrorCode.NONE, "", b""
        try:
            timeout_ms = self._config.max_poll_interval_ms + _JOIN_MARGIN_MS
            response: pb.SyncGroupResponse = await self._coordinator.call_patiently("SyncGroup", request, timeout_ms)
            code, message, assignment = ErrorCode.of(response.error_code), response.error_message, response.assignment
            if code is ErrorCode.NONE:
                if assignment:  # a leader may leave a member out
                    ConsumerProtocolAssignment.decode(assignment)
                logger.info("group_synced group=%s generation=%d", self.group_id, instruction.generation_id)
        except KafkaError as error:
            code, message = _code_of(error), str(error)
        if code is not ErrorCode.NONE:
            logger.info("group_sync_failed group=%s error=%s %s", self.group_id, code.name, message)
            self._coordinator.note(code)
        now_ms = self._clock.monotonic_ms()
        self._act(self._machine.sync_answered(instruction.attempt, code, message, assignment, now_ms))

    async def _heartbeat(self, instruction: SendHeartbeat) -> None:
        request = pb.HeartbeatRequest(
            group_id=self.group_id,
            generation_id=instruction.generation_id,
            member_id=instruction.member_id,
            group_instance_id=self._config.group_instance_id or "",
        )
        try:
            response: pb.HeartbeatResponse = await self._coordinator.call("Heartbeat", request)
            code = ErrorCode.of(response.error_code)
        except KafkaError as error:
            code = _code_of(error)
        if code is not ErrorCode.NONE:
            logger.info("group_heartbeat_refused group=%s error=%s", self.group_id, code.name)
            self._coordinator.note(code)
        now_ms = self._clock.monotonic_ms()
        self._act(self._machine.heartbeat_answered(instruction.generation_id, code, now_ms))

    async def _leave(self, instruction: SendLeave) -> None:
        """Best effort: who cannot leave is thrown out after its session time-out."""
        logger.info("group_leaving group=%s member=%s why=%s", self.group_id, instruction.member_id, instruction.reason)
        member = pb.LeavingMember(member_id=instruction.member_id, reason=instruction.reason)
        request = pb.LeaveGroupRequest(group_id=self.group_id, members=[member])
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_MS / 1000):  # of finding the coordinator, too
                await self._coordinator.call("LeaveGroup", request, _LEAVE_TIMEOUT_MS)
        except (KafkaError, TimeoutError) as error:
            logger.info("group_leave_failed group=%s error=%s", self.group_id, error)

    # --- the leader's part ----------------------------------------------------------------------------------------

    async def _share_out(self, instruction: ShareOut) -> None:
        try:
            assignor = self._topics.assignor(instruction.protocol_name)
            assignments = await self._topics.share_out(instruction.members, assignor, skip=instruction.skip)
        except KafkaError as error:
            self._act(self._machine.share_out_failed(instruction.attempt, error))
        except Exception as error:  # noqa: BLE001  # a user's assignor may raise anything: poll() tells of it
            failure = KafkaError(f"assignor {instruction.protocol_name!r} failed: {error!r}")
            failure.__cause__ = error
            self._act(self._machine.share_out_failed(instruction.attempt, failure))
        else:
            self._act(self._machine.shared_out(instruction.attempt, assignments))

    # --- topics ---------------------------------------------------------------------------------------------------

    def _on_metadata(self) -> None:
        if self.topics is None or self._closed:
            return
        if self._topics.follow_pattern():
            self._act(self._machine.rejoin("the subscription has changed"))
        if self._machine.is_leader and self._machine.state in _MEMBER_STATES and self._topics.have_changed():
            self._act(self._machine.rejoin("topics or partitions have come or gone"))
        self._arm()

    async def _refresh_and_rest(self) -> None:
        try:
            await self._topics.refresh()
        except Exception:  # the outermost frame of the task: the next try must come all the same
            logger.exception("group_refresh_failed group=%s", self.group_id)
        await asyncio.sleep(self._cluster.pause_ms(self._backoff.next_ms()) / 1000)
        self._refresh_task = None
        self._arm()


def _code_of(error: KafkaError) -> ErrorCode:
    """What a call failed with, for the state machine: no connection is no coordinator."""
    if error.retriable and not error.error_code.retriable:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    return error.error_code


def _join_answer(response: pb.JoinGroupResponse) -> JoinAnswer:
    return JoinAnswer(
        error=ErrorCode.of(response.error_code),
        message=response.error_message,
        member_id=response.member_id,
        generation_id=response.generation_id,
        protocol_name=response.protocol_name,
        leader=response.leader,
        skip_assignment=response.skip_assignment,
        members=tuple(response.members),
    )
