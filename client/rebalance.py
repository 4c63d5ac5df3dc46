"""What poll(), close() and unsubscribe() do for the group, in the user's thread: give up partitions and take them up.

Each is written once, as a generator of steps, for both consumers: a step is work for the event loop, to be waited for,
or a call of the user's listener. The rules that are kept here:

* Before partitions are given up under auto-commit, the offsets of what was given to the user are committed, and nothing
  else: nothing is skipped by the next owner.
* `on_partitions_revoked` comes before they go: the user may still commit. No record of them is given out after it.
* Under an eager assignor all of them go at each rebalance; under a cooperative one (KIP-429) only those that move, and
  the rest is read on meanwhile.
* What belongs to others already is not committed; `on_partitions_lost` says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Final

from ..proto.errors import KafkaError
from ..proto.identifiers import TopicPartition
from .assignment import Assignment
from .config import ConsumerConfig
from .group_member import GroupMember
from .group_membership import MemberState
from .group_offsets import GroupOffsets
from .structs import ConsumerRebalanceListener

logger = logging.getLogger(__name__)

_COMMIT_TIMEOUT_MS: Final = 10_000
"""Of the commit before partitions are given up: the others wait for us."""


@dataclass(frozen=True, slots=True)
class OnLoop:
    """To be run on the event loop and waited for."""

    call: Callable[[], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class InUserCode:
    """To be called in the user's thread; awaited where it gives an awaitable and the consumer is an AsyncConsumer."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


Steps = Generator[OnLoop | InUserCode, Any, None]


class Rebalance:
    """The user's half of a group membership."""

    def __init__(
        self,
        config: ConsumerConfig,
        member: GroupMember,
        offsets: GroupOffsets,
        assignment: Assignment,
        on_assigned: Callable[[], None],
    ) -> None:
        self._config = config
        self._member = member
        self._offsets = offsets
        self._assignment = assignment
        self._on_assigned = on_assigned
        self.listener: ConsumerRebalanceListener | None = None
        self._failure: BaseException | None = None  # what the user's listener raised
        # Assigned, and the listener has not heard of it to the end: a poll of an AsyncConsumer may be cancelled there.
        self._untold: set[TopicPartition] = set()

    def poll(self) -> Steps:
        """What the group needs of the user now. :raises KafkaError: the consumer was thrown out, or a listener failed.

        A listener's error comes when the step is done: the assignment is as it should be all the same.
        """
        error = yield OnLoop(self._member.join)
        if error is not None:
            raise error
        while True:
            if self._member.state is MemberState.PREPARING:
                yield from self._give_up()
            elif self._member.state is MemberState.COMPLETING:
                yield from self._take_up()
            else:
                break
        self._raise_failure()

    def leave(self, reason: str, *, autocommit: bool, timeout_ms: float | None) -> Steps:
        """Gives everything up and leaves the group. :raises KafkaError: a listener failed; the group was left."""
        owned = set(self._assignment.positions)
        lost = self._member.lost
        if autocommit and not lost:
            yield from self._commit(owned, timeout_ms)
        if owned and self._member.topics is not None:
            yield from self._tell("on_partitions_lost" if lost else "on_partitions_revoked", owned)
        self._assignment.drop(owned)
        # Those begun and not awaited, too: once the group is left, none of its generations may commit.
        yield OnLoop(lambda: self._offsets.settle(self._limit_ms(timeout_ms)))
        yield OnLoop(lambda: self._member.leave(reason))
        self._raise_failure()

    def completed_commits(self) -> Steps:
        """The callbacks of asynchronous commits that have ended."""
        while self._offsets.completed:
            callback, offsets, error = self._offsets.completed.popleft()
            yield InUserCode(callback, (offsets, error))

    def _give_up(self) -> Steps:
        member = self._member
        lost = member.lost
        owned = set(self._assignment.positions)
        if lost:
            if owned:
                yield from self._tell("on_partitions_lost", owned)
            self._assignment.drop(owned)
        else:
            cooperative = member.is_cooperative
            revoked = {partition for partition in owned if not cooperative or not member.fits(partition.topic)}
            yield from self._commit(owned)
            if revoked or not cooperative:
                yield from self._tell("on_partitions_revoked", revoked)
            self._assignment.drop(revoked)
        yield OnLoop(lambda: member.prepared(lost=lost))

    def _take_up(self) -> Steps:
        member = self._member
        assigned = set(member.assignment().partitions)
        if not all(member.fits(partition.topic) for partition in assigned):
            # The subscription has changed since we joined: this assignment is for the old one.
            yield OnLoop(lambda: member.rejoin("the assignment does not match the subscription"))
            yield OnLoop(member.completed)
            return
        owned = set(self._assignment.positions)
        revoked = owned - assigned
        added = (assigned - owned) | (self._untold & assigned)
        if revoked:
            yield from self._commit(revoked)
            yield from self._tell("on_partitions_revoked", revoked)
            # What was given up can go to its new owner only in a rebalance of its own (KIP-429). Not later: where this
            # is broken off, the next poll does not find it any more.
            yield OnLoop(lambda: member.rejoin("partitions were given up"))
            self._assignment.drop(revoked)
        self._untold = added
        self._assignment.add(sorted(added), reset=None, awaits_committed=True)
        member.tell_assignor(sorted(assigned))
        logger.info("group_assigned group=%s added=%s revoked=%s", member.group_id, sorted(added), sorted(revoked))
        yield from self._tell("on_partitions_assigned", added)
        self._untold = set()
        yield OnLoop(member.completed)
        self._on_assigned()

    def _commit(self, partitions: Collection[TopicPartition], timeout_ms: float | None = None) -> Steps:
        """Commits what was consumed; a failure means that some of it will be read again, and does not stop anything."""
        offsets = self._offsets.consumed(partitions) if self._config.enable_auto_commit else {}
        if not offsets:
            return
        limit_ms = self._limit_ms(timeout_ms)
        yield OnLoop(lambda: self._offsets.commit_or_warn(offsets, limit_ms))

    def _limit_ms(self, timeout_ms: float | None) -> float:
        return min(_COMMIT_TIMEOUT_MS, self._config.max_poll_interval_ms / 2) if timeout_ms is None else timeout_ms

    def _tell(self, method: str, partitions: set[TopicPartition]) -> Steps:
        if self.listener is None:
            return
        try:
            # kafka-python's listeners have no on_partitions_lost; Kafka's own take it for a revocation by default.
            call = getattr(self.listener, method, self.listener.on_partitions_revoked)
            yield InUserCode(call, (partitions,))
        except Exception as error:  # noqa: BLE001  # a user's listener may raise anything; poll() hands it on
            logger.warning("rebalance_listener_failed method=%s error=%r", method, error)
            self._failure = self._failure or error

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise KafkaError(f"the rebalance listener failed: {failure!r}") from failure
