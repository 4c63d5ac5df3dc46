"""A controller's state machine to send commands to, which checks the rules of replication after each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.controller.state import Applied, ControllerState, apply
from klamm.proto import command_pb2 as pb
from klamm.proto import metadata_pb2
from klamm.proto.command_pb2 import Command, CommandResponse
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerId

CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"


def check_step(before: ControllerState, applied: Applied) -> None:
    """Rules 1, 7 and 9 by number, and that the records say all that happened."""
    old, new = before.image, applied.state.image
    assert new.end_offset == old.end_offset + len(applied.records)
    assert applied.response.metadata_end_offset <= new.end_offset
    assert old.replay(applied.records, new.end_offset) == new
    for topic, partition in new.partitions():
        partition.check()
        previous = old.partition(topic.topic_id, partition.partition)
        if previous is not None and previous is not partition:
            partition.check_follows(previous)
        _check_liveness(new, partition)
    assert new.partition_count == sum(len(topic.partitions) for topic in new.topics.values())
    assert {topic.topic_id: name for name, topic in new.topics.items()} == dict(new.topic_names)


def _check_liveness(image: MetadataImage, partition: PartitionImage) -> None:
    inactive = [member for member in partition.isr if not image.is_active(member)]
    if inactive:  # rule 7, but for a leader that shuts down and that nobody could take over from
        assert partition.isr == (partition.leader,)
        assert not image.brokers[inactive[0]].fenced
    if partition.leader is None:
        assert partition.isr == ()
        assert not any(image.is_active(member) for member in partition.eligible_leader_replicas)
    minimum = image.topic_config(image.topic_names[partition.topic_id]).effective_min_insync_replicas(
        partition.replication_factor
    )
    if len(partition.isr) >= minimum:
        assert partition.eligible_leader_replicas == ()


def check_round_trips(state: ControllerState) -> ControllerState:
    """Snapshot and records give the same state back, in the same order; returns the restored one."""
    restored = ControllerState.restore(state.snapshot())
    assert restored == state
    assert restored.snapshot() == state.snapshot()
    for name in ("brokers", "topics", "topic_names", "configs"):
        assert list(getattr(restored.image, name)) == list(getattr(state.image, name)), name
    return restored


@dataclass
class MetadataCluster:
    """Commands under the current controller's epoch; every one is checked."""

    state: ControllerState = field(default_factory=ControllerState.empty)
    controller_epoch: int = 1
    count: int = 0
    last_command: Command = field(default_factory=Command)
    last_records: tuple[metadata_pb2.MetadataRecord, ...] = ()

    @property
    def image(self) -> MetadataImage:
        return self.state.image

    def run(self, **command: Any) -> Applied:
        """Sends one command; the keyword is its name."""
        self.count += 1
        self.last_command = Command(
            request_id=self.count.to_bytes(16, "big"),
            time_ms=1_000 + self.count,
            controller_epoch=self.controller_epoch,
            seed=self.count,
            **command,
        )
        return self.send(self.last_command)

    def send(self, command: Command) -> Applied:
        applied = apply(self.state, command.SerializeToString())
        assert applied.response.error_code != ErrorCode.UNKNOWN_SERVER_ERROR, applied.response
        check_step(self.state, applied)
        self.state = applied.state
        self.last_records = applied.records
        return applied

    def become_controller(self, epoch: int = 1, controller_id: int = 0) -> CommandResponse:
        self.controller_epoch = epoch
        return self.run(
            become_controller=pb.BecomeControllerCommand(
                controller_id=controller_id, controller_epoch=epoch, proposed_cluster_id=CLUSTER_ID
            )
        ).response

    def register(
        self,
        broker_id: int,
        *,
        incarnation: int | None = None,
        previous_epoch: int = -1,
        killed_epoch: int | None = None,
        log_dir: int = 0,
        alive: bool = False,
        rack: str = "",
        cluster_id: str = "",
        port: int = 9192,
    ) -> CommandResponse:
        """Registers; each call is a new incarnation unless one is named."""
        incarnation = self.count + 1 if incarnation is None else incarnation
        return self.run(
            register_broker=pb.RegisterBrokerCommand(
                broker_id=broker_id,
                incarnation_id=incarnation.to_bytes(16, "big"),
                cluster_id=cluster_id,
                endpoints=[
                    metadata_pb2.Endpoint(name="GRPC", host="localhost", port=port),
                    metadata_pb2.Endpoint(name="KAFKA", host="localhost", port=port - 100),
                ],
                rack=rack,
                previous_broker_epoch=previous_epoch,
                killed_broker_epoch=killed_epoch,
                log_dir_id=bytes([broker_id % 256, log_dir]) * 8,
                previous_incarnation_alive=alive,
            )
        ).response

    def epoch(self, broker_id: int) -> int:
        return self.image.brokers[BrokerId(broker_id)].broker_epoch

    def unfence(self, broker_id: int) -> CommandResponse:
        command = pb.UnfenceBrokerCommand(broker_id=broker_id, broker_epoch=self.epoch(broker_id))
        return self.run(unfence_broker=command).response

    def fence(self, *broker_ids: int) -> Applied:
        brokers = [pb.FencedBroker(broker_id=broker, broker_epoch=self.epoch(broker)) for broker in broker_ids]
        return self.run(fence_brokers=pb.FenceBrokersCommand(brokers=brokers))

    def shut_down(self, broker_id: int) -> CommandResponse:
        command = pb.ControlledShutdownCommand(broker_id=broker_id, broker_epoch=self.epoch(broker_id))
        return self.run(controlled_shutdown=command).response

    def start_brokers(self, *broker_ids: int, racks: Mapping[int, str] | None = None) -> None:
        for broker_id in broker_ids:
            assert not self.register(broker_id, rack=(racks or {}).get(broker_id, "")).error_code
            assert not self.unfence(broker_id).error_code

    def create_topic(
        self,
        name: str,
        partitions: int = -1,
        replication_factor: int = -1,
        *,
        assignments: Sequence[Sequence[int]] = (),
        validate_only: bool = False,
        **configs: str,
    ) -> pb.CreatedTopic:
        """Keys of `configs` are written with underscores."""
        topic = pb.CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            assignments=[
                pb.ReplicaAssignment(partition=number, broker_ids=brokers) for number, brokers in enumerate(assignments)
            ],
            configs={key.replace("_", "."): value for key, value in configs.items()},
        )
        command = pb.CreateTopicsCommand(topics=[topic], validate_only=validate_only)
        return self.run(create_topics=command).response.create_topics.topics[0]

    def partition(self, topic: str, number: int = 0) -> PartitionImage:
        return self.image.topics[topic].partitions[number]

    def isr_entry(self, current: PartitionImage, isr: Sequence[int], **fields: Any) -> pb.AlterPartitionEntry:
        """What a leader that is up to date sends."""
        values: dict[str, Any] = {
            "topic_id": current.topic_id.bytes,
            "partition": current.partition,
            "leader_epoch": current.leader_epoch,
            "partition_epoch": current.partition_epoch,
            "new_isr": [pb.BrokerState(broker_id=member, broker_epoch=self.epoch(member)) for member in isr],
            **fields,
        }
        return pb.AlterPartitionEntry(**values)

    def alter_isr(
        self, topic: str, number: int, isr: Sequence[int], *, sender: int | None = None, **fields: Any
    ) -> pb.AlterPartitionOutcome:
        partition = self.partition(topic, number)
        leader = partition.leader if sender is None else sender
        assert leader is not None
        response = self.run(
            alter_partition=pb.AlterPartitionCommand(
                broker_id=leader,
                broker_epoch=self.epoch(leader),
                partitions=[self.isr_entry(partition, isr, **fields)],
            )
        ).response
        assert not response.error_code, response
        return response.alter_partition.partitions[0]

    def configure(self, topic: str | None, **configs: str | None) -> pb.AlterConfigsOutcome:
        """Sets keys (with underscores) of a topic or, with None, cluster-wide; a value of None deletes."""
        resource = pb.AlterConfigsResource(
            resource_type=metadata_pb2.CONFIG_RESOURCE_BROKER if topic is None else metadata_pb2.CONFIG_RESOURCE_TOPIC,
            resource_name=topic or "",
            configs=[
                pb.AlterableConfig(
                    name=key.replace("_", "."),
                    operation=pb.ALTER_CONFIG_DELETE if value is None else pb.ALTER_CONFIG_SET,
                    value=value,
                )
                for key, value in configs.items()
            ],
        )
        command = pb.IncrementalAlterConfigsCommand(resources=[resource])
        return self.run(incremental_alter_configs=command).response.incremental_alter_configs.resources[0]

    def elect(self, topic: str, number: int = 0, *, unclean: bool = False) -> ErrorCode:
        command = pb.ElectLeadersCommand(
            election_type=pb.ELECTION_UNCLEAN if unclean else pb.ELECTION_PREFERRED,
            partitions=[pb.TopicPartitionReference(topic=topic, partition=number)],
        )
        outcome = self.run(elect_leaders=command).response.elect_leaders.partitions[0]
        return ErrorCode.of(outcome.error_code)

    def reassign(self, topic: str, number: int, replicas: Sequence[int] | None) -> pb.PartitionOutcome:
        """None cancels."""
        entry = pb.ReassignablePartition(
            topic=topic, partition=number, replicas=replicas or (), cancel=replicas is None
        )
        command = pb.AlterPartitionReassignmentsCommand(partitions=[entry])
        response = self.run(alter_partition_reassignments=command).response
        return response.alter_partition_reassignments.partitions[0]

    def delete_topic(self, name: str = "", topic_id: UUID | None = None) -> pb.TopicOutcome:
        reference = pb.TopicReference(name=name, topic_id=b"" if topic_id is None else topic_id.bytes)
        command = pb.DeleteTopicsCommand(topics=[reference])
        return self.run(delete_topics=command).response.delete_topics.topics[0]

    def add_partitions(
        self, topic: str, count: int, assignments: Mapping[int, Sequence[int]] | None = None
    ) -> pb.TopicOutcome:
        wanted = pb.CreatePartitionsTopic(
            name=topic,
            count=count,
            assignments=[
                pb.ReplicaAssignment(partition=number, broker_ids=brokers)
                for number, brokers in (assignments or {}).items()
            ],
        )
        command = pb.CreatePartitionsCommand(topics=[wanted])
        return self.run(create_partitions=command).response.create_partitions.topics[0]


def cluster_of(*broker_ids: int, racks: Mapping[int, str] | None = None) -> MetadataCluster:
    """An active controller and these brokers, unfenced."""
    cluster = MetadataCluster()
    assert not cluster.become_controller().error_code
    cluster.start_brokers(*broker_ids, racks=racks)
    return cluster
