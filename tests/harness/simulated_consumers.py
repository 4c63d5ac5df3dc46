"""Consumers of KIP-848 that do what real ones do, a coordinator that crashes, and a network that loses answers.

One seed draws everything. What is not simulated: a request that is taken up after a later one of the same member. A
connection is answered in order, and a client closes it before it asks anew over another; KIP-848 has no number by which
a coordinator could tell.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from uuid import UUID

from harness.consumer_groups import FakeTopics, GroupUnderTest, heartbeat_request
from klamm.broker.groups.group import Append, Effects, GroupRecord, Reply, Ticket, Token
from klamm.broker.groups.group_request import (
    ConsumerGroupHeartbeatAnswer,
    ConsumerGroupHeartbeatRequest,
    OffsetCommitRequest,
)
from klamm.proto.errors import ErrorCode

TopicPartition = tuple[UUID, int]
SESSION_MS = 45_000


@dataclass
class Consumer:
    """A client process: what it believes, and what it has in its hands."""

    member_id: str
    instance_id: str | None
    topics: tuple[str, ...]
    regex: str | None
    epoch: int = 0
    owned: frozenset[TopicPartition] = frozenset()
    told: frozenset[TopicPartition] = frozenset()  # its assignment; it revokes first, then takes
    says_all: bool = True  # in the next heartbeat: after a start and after each error
    reported: frozenset[TopicPartition] | None = None  # as of the last heartbeat that was answered
    asked: tuple[int, ConsumerGroupHeartbeatRequest] | None = None  # the ticket that it waits for
    paused_until_ms: int = 0
    leaving: int | None = None  # -1 or -2: it asks for nothing else any more

    def request(self) -> ConsumerGroupHeartbeatRequest:
        if self.leaving is not None:
            return heartbeat_request(self.member_id, self.leaving, group_instance_id=self.instance_id)
        request = heartbeat_request(self.member_id, self.epoch, group_instance_id=self.instance_id)
        if self.says_all or self.epoch == 0:
            request = replace(
                request,
                rebalance_timeout_ms=10_000,
                subscribed_topic_names=self.topics,
                subscribed_topic_regex=self.regex,
            )
        if self.says_all or self.epoch == 0 or self.reported != self.owned:
            by_topic: dict[UUID, list[int]] = {}
            for one, partition in sorted(self.owned):
                by_topic.setdefault(one, []).append(partition)
            request = replace(request, owned_partitions={one: tuple(by_topic[one]) for one in by_topic})
        return request

    def take(self, request: ConsumerGroupHeartbeatRequest, answer: ConsumerGroupHeartbeatAnswer) -> None:
        if answer.error in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.GROUP_ID_NOT_FOUND):
            self.epoch, self.says_all, self.owned, self.told, self.reported = 0, True, frozenset(), frozenset(), None
            return
        if answer.error is not ErrorCode.NONE:
            self.says_all = True
            return
        assert answer.member_id == self.member_id
        self.epoch = answer.member_epoch
        self.says_all = False
        if request.owned_partitions is not None:
            self.reported = frozenset(
                (one, number) for one, all_ in request.owned_partitions.items() for number in all_
            )
        if answer.assignment is not None:
            self.told = frozenset((one, number) for one, all_ in answer.assignment.items() for number in all_)

    def work(self) -> None:
        """One step of the reconciliation: what must go goes first, as the callback of the application would run.

        It takes nothing as long as a heartbeat that said what it owns may be without an answer: the coordinator may
        give away what it was told that the member does not own, as KIP-848 has it.
        """
        reported_in_vain = self.says_all or (self.asked is not None and self.asked[1].owned_partitions is not None)
        if self.owned - self.told:
            self.owned &= self.told
        elif not reported_in_vain:
            self.owned = self.told


@dataclass
class SimulatedGroup:
    """The group and everything around it."""

    seed: int
    topics: FakeTopics = field(default_factory=lambda: FakeTopics({"t": 4, "u": 3}))
    consumers: list[Consumer] = field(default_factory=list)
    faults: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.test = GroupUnderTest(self.topics)
        self.log: list[GroupRecord] = []
        self.committed = 0  # records that every replica has
        self.on_their_way: list[tuple[Token, int]] = []  # appends, and the log end after each
        self.answers: dict[int, ConsumerGroupHeartbeatAnswer] = {}
        self.ids = 0
        self.now_ms = 0

    # --- the shell ---

    def carry_out(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                self.answers[effect.ticket] = effect.answer
            elif isinstance(effect, Append):
                if self.faults and self.random.random() < 0.02:
                    self.carry_out(self.test.group.failed(effect.token, ErrorCode.NOT_ENOUGH_REPLICAS, self.now_ms))
                    continue
                self.log += effect.records
                self.test.group.appended(effect.token)
                self.on_their_way.append((effect.token, len(self.log)))

    def commit(self) -> None:
        if self.on_their_way:
            token, end = self.on_their_way.pop(0)
            self.committed = end
            self.carry_out(self.test.group.committed(token, self.now_ms))

    def fail_over(self) -> None:
        """Another coordinator: it has all that is committed, and perhaps some of what was on its way."""
        ends = [self.committed, *(end for _, end in self.on_their_way)]
        del self.log[self.random.choice(ends) :]
        self.committed = len(self.log)
        self.on_their_way.clear()
        self.test.reload(self.log)
        for consumer in self.consumers:
            if consumer.asked is not None and consumer.asked[0] not in self.answers:
                consumer.asked, consumer.says_all = None, True  # NOT_COORDINATOR, or a closed connection

    # --- the consumers ---

    def start_consumer(self, instance_id: str | None = None) -> None:
        self.ids += 1
        topics = self.random.choice((("t",), ("t", "u"), ("t", "u", "v")))
        regex = self.random.choice((None, None, "[tu]", "v.*"))
        self.consumers.append(Consumer(f"m{self.ids}", instance_id, topics, regex))

    def beat(self, consumer: Consumer) -> None:
        """Sends a heartbeat, or takes the answer that has come."""
        if self.now_ms < consumer.paused_until_ms:
            return
        if consumer.asked is not None:
            ticket, request = consumer.asked
            answer = self.answers.pop(ticket, None)
            if answer is not None:
                consumer.asked = None
                if self.faults and self.random.random() < 0.08:
                    consumer.says_all = True  # the answer was lost
                else:
                    consumer.take(request, answer)
                    if consumer.leaving is not None:
                        self.consumers.remove(consumer)
            elif self.random.random() < 0.05:
                consumer.asked, consumer.says_all = None, True  # it gave up waiting
            return
        request = consumer.request()
        self.test.tickets += 1
        ticket = self.test.tickets
        consumer.asked = (ticket, request)
        if self.faults and self.random.random() < 0.05:
            consumer.asked, consumer.says_all = None, True  # the request was lost
            return
        self.carry_out(self.test.group.heartbeat(request, Ticket(ticket), self.now_ms))
        if self.faults and self.random.random() < 0.1:  # the network delivers it twice
            self.test.tickets += 1
            self.carry_out(self.test.group.heartbeat(request, Ticket(self.test.tickets), self.now_ms))

    # --- what happens ---

    def step(self) -> None:
        self.now_ms += self.random.choice((0, 10, 100, 500))
        if self.faults:
            self.mishap()
        for _ in range(3):
            self.random.choice((self.commit, self.tick, self.work, self.heartbeat, self.heartbeat))()
            self.check()

    def tick(self) -> None:
        deadline_ms = self.test.group.next_deadline_ms()
        if deadline_ms is not None and deadline_ms <= self.now_ms:
            self.carry_out(self.test.group.tick(self.now_ms))

    def work(self) -> None:
        if self.consumers:
            self.random.choice(self.consumers).work()

    def heartbeat(self) -> None:
        if self.consumers:
            self.beat(self.random.choice(self.consumers))

    def mishap(self) -> None:
        draw = self.random.random()
        if draw < 0.02 and len(self.consumers) < 9:
            taken = {consumer.instance_id for consumer in self.consumers}
            free = [one for one in ("i1", "i2", None, None, None) if one is None or one not in taken]
            self.start_consumer(self.random.choice(free))
        elif draw < 0.03:
            self.fail_over()
        elif draw < 0.035 and self.consumers:
            self.consumers.remove(self.random.choice(self.consumers))  # kill -9
        elif draw < 0.045 and self.consumers:
            consumer = self.random.choice(self.consumers)
            consumer.leaving = -1 if consumer.instance_id is None else self.random.choice((-1, -2))
            consumer.owned = consumer.told = frozenset()  # it lets go of everything before it says so
        elif draw < 0.05 and self.consumers:
            self.random.choice(self.consumers).paused_until_ms = self.now_ms + SESSION_MS + 1_000
        elif draw < 0.06:
            counts = dict(self.topics.counts)
            name = self.random.choice(("t", "u", "v", "v1"))
            counts[name] = min(counts.get(name, 0) + 1, 6)
            if self.random.random() < 0.2:
                del counts[name]
            generation = "2" if self.random.random() < 0.05 else self.topics.generation
            self.topics = FakeTopics(counts, self.topics.version + 1, generation)
            self.test.topics = self.topics
            self.carry_out(self.test.group.metadata_changed(self.topics, self.now_ms))
        elif draw < 0.065 and self.consumers:
            consumer = self.random.choice(self.consumers)
            consumer.topics, consumer.says_all = self.random.choice((("t",), ("u",), ("t", "u"))), True

    # --- the oracle ---

    def check(self) -> None:
        """Rule 22, as far as a client can see, and as far as the coordinator says."""
        members = self.test.group._state.members
        held: dict[TopicPartition, str] = {}
        held_by: dict[str, set[TopicPartition]] = {}
        for member in members.values():
            held_by[member.member_id] = set()
            for assignment in (member.assigned_partitions, member.partitions_pending_revocation):
                for one, partitions in assignment.items():
                    for partition in partitions:
                        assert (one, partition) not in held, f"seed {self.seed}: two members hold {partition} of {one}"
                        held[one, partition] = member.member_id
                        held_by[member.member_id].add((one, partition))
        for consumer in self.consumers:
            if consumer.member_id in members:
                surplus = consumer.owned - held_by[consumer.member_id]
                assert not surplus, f"seed {self.seed}: {consumer.member_id} owns {surplus} which are not its own"
            elif members and consumer.owned:
                commit = OffsetCommitRequest("g", consumer.epoch, consumer.member_id, consumer.instance_id, ())
                refused = self.test.group.check_offset_commit(commit, self.now_ms)
                assert refused is ErrorCode.UNKNOWN_MEMBER_ID, f"seed {self.seed}: a fenced member may commit"

    def settle(self) -> None:
        """No more mishaps: in the end all is assigned, and everybody has what it was told."""
        self.faults = False
        for _ in range(400):
            self.now_ms += 500
            self.commit()
            self.tick()
            for consumer in tuple(self.consumers):
                consumer.work()
                self.beat(consumer)
            self.check()
