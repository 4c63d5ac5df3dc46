"""Random sequences of commands against a model of who holds the data: no clean election may lose what is committed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from harness.metadata_cluster import MetadataCluster, check_round_trips
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from klamm.cluster.image import PartitionImage
from klamm.proto import command_pb2 as pb
from klamm.proto.command_pb2 import Command
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId

BROKERS = st.integers(1, 4)
NUMBERS = st.integers(0, 2**16)
PartitionKey = tuple[UUID, int]


EXPECTED_ERRORS = {
    ErrorCode.NONE,
    ErrorCode.NEW_LEADER_ELECTED,
    ErrorCode.FENCED_LEADER_EPOCH,
    ErrorCode.INVALID_UPDATE_VERSION,
    ErrorCode.INELIGIBLE_REPLICA,
    ErrorCode.UNKNOWN_TOPIC_ID,
    ErrorCode.INVALID_REQUEST,
}


@dataclass
class Data:
    """Of one partition: who holds every committed record, and whom the leader is about to take into the ISR."""

    holders: set[int]
    joining: set[int] = field(default_factory=set)


class ControllerCommands(RuleBasedStateMachine):
    """Brokers come and go, leaders change ISRs, users administer; commands are delayed and repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = MetadataCluster()
        self.up: set[int] = set()  # processes that run and are registered
        self.log_dirs = dict.fromkeys(range(1, 5), 0)
        self.data: dict[PartitionKey, Data] = {}
        self.seen_epochs: set[tuple[PartitionKey, int]] = set()
        self.leaders: dict[tuple[PartitionKey, int], int] = {}  # by leader epoch
        self.sent: list[tuple[Command, PartitionKey, int | None]] = []  # by leaders; who was to join the ISR
        self.last_commands: list[Command] = []
        self.topic_count = 0

    @initialize(replication_factor=st.integers(1, 3), min_isr=st.sampled_from(["1", "2", ""]))
    def start(self, replication_factor: int, min_isr: str) -> None:
        self.cluster.become_controller()
        self.cluster.start_brokers(1, 2, 3)
        self.up = {1, 2, 3}
        self.create_topic(1, replication_factor, min_isr)

    # --- brokers -------------------------------------------------------------------------------------------------

    @rule(broker=BROKERS, how=st.sampled_from(["clean", "killed", "power loss", "wiped"]))
    def restart(self, broker: int, how: str) -> None:
        image = self.cluster.image
        existing = image.brokers.get(BrokerId(broker))
        previous = existing.broker_epoch if existing is not None and how == "clean" else -1
        if how == "wiped":
            self.log_dirs[broker] += 1
        for key, data in self.data.items():
            partition = image.partition(*key)
            assert partition is not None
            trusted = {*partition.isr, *partition.eligible_leader_replicas}
            # A lone holder is trusted after kill -9, as its page cache lives; the model does not pull its plug.
            if how == "wiped" or (how == "power loss" and trusted != {broker}):
                data.holders.discard(broker)
            data.joining.discard(broker)
        self._do(lambda: self.cluster.register(broker, previous_epoch=previous, log_dir=self.log_dirs[broker]))
        self.up.add(broker)

    @rule(broker=BROKERS, how=st.sampled_from(["clean", "killed", "power loss", "wiped"]))
    def restart_and_join(self, broker: int, how: str) -> None:
        self.restart(broker, how)
        self.unfence(broker)

    @rule(broker=BROKERS)
    def kill(self, broker: int) -> None:
        self.up.discard(broker)

    @rule(broker=BROKERS)
    def fence(self, broker: int) -> None:
        if BrokerId(broker) in self.cluster.image.brokers:
            self._do(lambda: self.cluster.fence(broker))

    @rule(broker=BROKERS)
    def kill_and_fence(self, broker: int) -> None:
        self.kill(broker)
        self.fence(broker)

    @rule(broker=BROKERS)
    def unfence(self, broker: int) -> None:
        if broker in self.up:
            self._do(lambda: self.cluster.unfence(broker))

    @rule(broker=BROKERS)
    def shut_down(self, broker: int) -> None:
        if broker in self.up:
            self._do(lambda: self.cluster.shut_down(broker))

    @rule(epoch_step=st.integers(0, 2), controller=st.integers(0, 2))
    def new_controller(self, epoch_step: int, controller: int) -> None:
        epoch = self.cluster.controller_epoch
        self.cluster.become_controller(epoch + epoch_step, controller)
        self.cluster.controller_epoch = self.cluster.image.controller_epoch

    # --- leaders -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.data)
    @rule(pick=NUMBERS)
    def commit_a_record(self, pick: int) -> None:
        partition, data = self._pick(pick)
        minimum = self._min_insync_replicas(partition)
        needed = {*partition.isr, *data.joining}
        if partition.leader is not None and len(partition.isr) >= minimum and needed <= self.up:
            data.holders = set(needed)  # rule 5: it waits for the maximal ISR; everyone else is behind now

    @precondition(lambda self: self.data)
    @rule(pick=NUMBERS, broker=BROKERS, delay=st.booleans())
    def change_isr(self, pick: int, broker: int, delay: bool) -> None:
        partition, data = self._pick(pick)
        leader = partition.leader
        if leader is None or leader not in self.up or data.joining or broker == leader:
            return
        joining: int | None = None
        if broker in partition.isr:
            isr = [member for member in partition.isr if member != broker]
        elif broker in partition.replicas and broker in self.up:
            isr, joining = [*partition.isr, BrokerId(broker)], broker
            data.holders.add(broker)  # rule 8: it has caught up
            data.joining.add(broker)
        else:
            return
        command = Command(
            alter_partition=pb.AlterPartitionCommand(
                broker_id=leader,
                broker_epoch=self.cluster.epoch(leader),
                partitions=[self.cluster.isr_entry(partition, isr)],
            ),
        )
        self.sent = [*self.sent[-9:], (command, _key(partition), joining)]
        if not delay:
            self.deliver(len(self.sent) - 1)

    @precondition(lambda self: self.sent)
    @rule(pick=NUMBERS)
    def deliver(self, pick: int) -> None:
        """A leader's request arrives, for the first time or, as it was sent again, once more."""
        command, key, joining = self.sent[pick % len(self.sent)]
        command.request_id = b"isr" + len(self.last_commands).to_bytes(4, "big")
        command.controller_epoch = self.cluster.controller_epoch
        applied = self.cluster.send(command)
        self.last_commands.append(Command.FromString(command.SerializeToString()))
        for outcome in applied.response.alter_partition.partitions:
            assert outcome.error_code in EXPECTED_ERRORS
            taken = outcome.error_code in {ErrorCode.NONE, ErrorCode.NEW_LEADER_ELECTED}
            if key in self.data and (taken or outcome.error_code == ErrorCode.INELIGIBLE_REPLICA):
                self.data[key].joining.discard(-1 if joining is None else joining)
        self._observe()

    @precondition(lambda self: self.last_commands)
    @rule(pick=NUMBERS)
    def deliver_again(self, pick: int) -> None:
        applied = self.cluster.send(self.last_commands[pick % len(self.last_commands)])
        assert not applied.records

    # --- users ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.data) < 6)
    @rule(
        partitions=st.integers(1, 2), replication_factor=st.integers(1, 4), min_isr=st.sampled_from(["", "1", "2", "3"])
    )
    def create_topic(self, partitions: int, replication_factor: int, min_isr: str) -> None:
        self.topic_count += 1
        configs = {"min_insync_replicas": min_isr} if min_isr else {}
        name = f"topic-{self.topic_count}"
        self._do(lambda: self.cluster.create_topic(name, partitions, replication_factor, **configs))

    @precondition(lambda self: len(self.data) < 10)
    @rule(pick=NUMBERS, more=st.integers(1, 2))
    def add_partitions(self, pick: int, more: int) -> None:
        topic = self.cluster.image.topics[self._topic_of(pick)]
        self._do(lambda: self.cluster.add_partitions(topic.name, len(topic.partitions) + more))

    @precondition(lambda self: len(self.cluster.image.topics) > 1)
    @rule(pick=NUMBERS)
    def delete_topic(self, pick: int) -> None:
        self._do(lambda: self.cluster.delete_topic(self._topic_of(pick)))

    @precondition(lambda self: self.data)
    @rule(pick=NUMBERS, replicas=st.lists(BROKERS, min_size=1, max_size=4, unique=True))
    def reassign(self, pick: int, replicas: list[int]) -> None:
        partition, _ = self._pick(pick)
        self._do(lambda: self.cluster.reassign(self._topic_of(pick), partition.partition, replicas))

    @precondition(lambda self: self.data)
    @rule(pick=NUMBERS)
    def cancel_reassignment(self, pick: int) -> None:
        partition, _ = self._pick(pick)
        self._do(lambda: self.cluster.reassign(self._topic_of(pick), partition.partition, None))

    @precondition(lambda self: self.data)
    @rule(pick=NUMBERS, value=st.sampled_from([None, "1", "2", "3"]), cluster_wide=st.booleans())
    def change_min_isr(self, pick: int, value: str | None, cluster_wide: bool) -> None:
        topic = None if cluster_wide else self._topic_of(pick)
        self._do(lambda: self.cluster.configure(topic, min_insync_replicas=value))

    @precondition(lambda self: self.data)
    @rule(pick=NUMBERS, unclean=st.booleans())
    def elect(self, pick: int, unclean: bool) -> None:
        partition, _ = self._pick(pick)
        self._do(
            lambda: self.cluster.elect(self._topic_of(pick), partition.partition, unclean=unclean), unclean=unclean
        )

    # --- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def restores_from_its_snapshot(self) -> None:
        self.cluster.state = check_round_trips(self.cluster.state)

    def _do(self, command: Callable[[], object], *, unclean: bool = False) -> None:
        command()
        self.last_commands.append(self.cluster.last_command)
        self._observe(unclean=unclean)

    def _observe(self, *, unclean: bool = False) -> None:
        """Takes in what changed; rule 1 and the controllers' part of rules 3 and 19."""
        present = set()
        for _, partition in self.cluster.image.partitions():
            key = _key(partition)
            present.add(key)
            data = self.data.setdefault(key, Data(set(partition.isr)))
            known = self.leaders.get((key, partition.leader_epoch))
            if partition.leader is not None:
                assert known in (None, partition.leader), f"two leaders in one epoch: {partition}"
                if known is None and unclean and partition.recovering:
                    data.holders = {partition.leader}  # what it holds is what counts from now on
                assert partition.leader in data.holders, f"{partition.leader} lacks committed records: {partition}"
                self.leaders[key, partition.leader_epoch] = partition.leader
            if (key, partition.leader_epoch) not in self.seen_epochs:
                self.seen_epochs.add((key, partition.leader_epoch))
                data.joining.clear()  # a new epoch: what the old leader proposed is refused
        self.data = {key: data for key, data in self.data.items() if key in present}

    def _pick(self, pick: int) -> tuple[PartitionImage, Data]:
        key = list(self.data)[pick % len(self.data)]
        partition = self.cluster.image.partition(*key)
        assert partition is not None
        return partition, self.data[key]

    def _topic_of(self, pick: int) -> str:
        return self.cluster.image.topic_names[list(self.data)[pick % len(self.data)][0]]

    def _min_insync_replicas(self, partition: PartitionImage) -> int:
        name = self.cluster.image.topic_names[partition.topic_id]
        return self.cluster.image.topic_config(name).effective_min_insync_replicas(partition.replication_factor)


def _key(partition: PartitionImage) -> PartitionKey:
    return (partition.topic_id, partition.partition)


TestRule1And7And9And19OverRandomCommands = ControllerCommands.TestCase
TestRule1And7And9And19OverRandomCommands.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
