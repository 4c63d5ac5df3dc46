"""Puts the oracles' ears on: which method of the code under test tells which oracle what."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.fake_file_system import FakeFileSystem
from klamm.broker.groups.classic_group import ClassicGroup
from klamm.broker.groups.coordinator import GroupCoordinator
from klamm.broker.groups.group import Effects, GroupRecord, Reply, Ticket
from klamm.broker.groups.group_log import PartitionGroupLog
from klamm.broker.groups.group_request import HeartbeatRequest, OffsetCommitRequest, SyncRequest
from klamm.broker.groups.offsets_topic import OFFSETS_TOPIC
from klamm.broker.groups.pending_append import AssignmentAppend, PendingAppend
from klamm.broker.groups.rebalance import Rebalance
from klamm.broker.groups.shard import GroupShard
from klamm.broker.groups.shard_offsets import ShardOffsets
from klamm.broker.leader_replica import LeaderReplica
from klamm.broker.log.log_manager import LogManager
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.partition import Partition
from klamm.broker.producer_ids import ProducerIds
from klamm.broker.replica_manager import ReplicaManager
from klamm.controller.state_machine import MetadataStateMachine
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import ProducerId, TopicIdPartition, TopicPartition
from klamm.proto.record_batch import batches, parse_header
from simulator.oracles.door_oracle import Served
from simulator.oracles.freshness_oracle import FreshnessOracle
from simulator.oracles.hooks import Hooks
from simulator.oracles.replica_logs import Batch, batches_in
from simulator.oracles.sight import acts_on, batches_on_disk, current_node_id, leader_view, serving_server
from simulator.world import BrokerNode, Node

if TYPE_CHECKING:
    from simulator.oracles import Oracles


def listen(oracles: Oracles) -> Hooks:
    """Until the hooks are closed."""
    hooks = Hooks()
    for ears in (_Nodes, _Controllers, _Logs, _Replicas, _Doors, _Groups, FreshnessOracle):
        ears(oracles, hooks)
    return hooks


class _Nodes:
    """Starts, power cuts, decay."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.around(Node, "start", self._start)
        hooks.around(BrokerNode, "cut_power", self._cut_power)
        hooks.after(FakeFileSystem, "flip_bit", self._flipped)
        hooks.after(FakeFileSystem, "fail_next", self._fails)

    def _start(self, start: Callable[..., None], node: Node) -> None:
        self._oracles.starts(node)
        start(node)

    def _cut_power(self, cut_power: Callable[..., None], node: BrokerNode) -> None:
        oracles = self._oracles
        epoch = node.epoch
        cut_power(node)
        oracles.power_cuts.add(node.broker_id)
        oracles.commits.disk_lost(node.broker_id, max(epoch, oracles.registered_epoch(node.broker_id)), oracles.now_s)

    def _flipped(self, _: None, disk: FakeFileSystem, path: str, bit: int) -> None:
        for node in self._oracles.world.brokers.values():
            if node.disk is disk:
                self._oracles.decayed(node, path)

    def _fails(self, _: None, disk: FakeFileSystem, *__: Any, **___: Any) -> None:
        for node in self._oracles.world.brokers.values():
            if node.disk is disk:
                self._oracles.faulty_disks.add(node.broker_id)
                self._oracles.commits.distrusted.add(node.broker_id)


class _Controllers:
    """Commands as they are applied."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.around(MetadataStateMachine, "apply", self._apply)
        hooks.after(MetadataStateMachine, "restore", self._restored)
        oracles.quorum.listen(hooks)

    def _apply(
        self, apply: Callable[..., bytes], machine: MetadataStateMachine, command: bytes, index: int, term: int
    ) -> bytes:
        before = machine.image.end_offset
        answer = apply(machine, command, index, term)
        count = machine.image.end_offset - before
        if count:
            records = [record.SerializeToString(deterministic=True) for record in machine.log._records[-count:]]
            oracles = self._oracles
            oracles.metadata.applied(current_node_id(), command, records, machine.image, oracles.now_s)
        return answer

    def _restored(self, _: None, machine: MetadataStateMachine, __: bytes) -> None:
        self._oracles.metadata.restored(current_node_id(), machine.image)


class _Logs:
    """Whatever changes a log."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.around(PartitionLog, "append_as_leader", self._append_as_leader)
        hooks.around(PartitionLog, "append_as_follower", self._append_as_follower)
        hooks.after(PartitionLog, "truncate_to", self._truncated)
        hooks.after(PartitionLog, "truncate_fully_and_start_at", self._restarted)
        hooks.after(PartitionLog, "advance_log_start_to", self._start_advanced)
        hooks.after(PartitionLog, "update_config", self._configured)
        hooks.after(LogManager, "_load", self._loaded)
        hooks.around(LogManager, "delete", self._delete)
        oracles.compactions.listen(hooks)

    @staticmethod
    def _key(log: PartitionLog) -> TopicIdPartition:
        return TopicIdPartition(log.topic_id, log.topic_partition.partition)

    def _append_as_leader(self, append: Callable[..., Any], log: PartitionLog, batch: Any, **named: Any) -> Any:
        end_offset = log.log_end_offset
        try:
            result = append(log, batch, **named)
        except Exception:
            if log.log_end_offset != end_offset:
                self._oracles.findings.report(
                    27,
                    f"an append to {log.topic_partition} on broker {current_node_id()} failed, and its end moved from "
                    f"{end_offset} to {log.log_end_offset}",
                )
            header = parse_header(batch)
            self._oracles.log_oracle.refused(
                current_node_id(), self._key(log), header.producer_id, header.producer_epoch
            )
            raise
        if not result.duplicate:
            data, segment = bytes(batch), log._segments.active
            written = self._oracles.world.brokers[current_node_id()].disk.files[segment.path].data
            self._oracles.log_oracle.appended_as_leader(
                current_node_id(),
                self._key(log),
                Batch.of(parse_header(data), data),
                written=written[segment.size - len(data) : segment.size] == data,
            )
        return result

    def _append_as_follower(
        self, append: Callable[..., None], log: PartitionLog, records: bytes, *, gaps: bool = False, **named: Any
    ) -> None:
        try:
            append(log, records, gaps=gaps, **named)
        finally:
            # After an error a run of whole batches may have been appended all the same.
            end_offset = log.log_end_offset
            added = [batch for batch in batches_in(records) if batch.next_offset <= end_offset]
            self._oracles.log_oracle.appended_as_follower(current_node_id(), self._key(log), added, gaps=gaps)

    def _truncated(self, _: None, log: PartitionLog, offset: int) -> None:
        self._oracles.cut(log, self._key(log), offset, restarted=False)

    def _restarted(self, _: None, log: PartitionLog, offset: int) -> None:
        self._oracles.cut(log, self._key(log), offset, restarted=True)

    def _start_advanced(self, moved: bool, log: PartitionLog, offset: int, *, at_once: bool = False) -> None:
        if moved:
            known = self._oracles.logs.of(current_node_id(), self._key(log))
            known.deleted_below = max(known.deleted_below, log.log_start_offset)
            self._oracles.check_epochs(log, self._key(log))

    def _configured(self, _: None, log: PartitionLog, __: Any) -> None:
        if log.config.compacted:
            self._oracles.logs.compacted.add(self._key(log))

    def _loaded(self, _: None, manager: LogManager, *__: Any) -> None:
        oracles = self._oracles
        node = oracles.world.brokers[current_node_id()]
        for partition, log in manager.logs.items():
            damaged = (node.broker_id, partition) in oracles.decay
            report = None if damaged else oracles.findings.report
            found = batches_on_disk(node.disk, log.directory, log.log_end_offset, report)
            whole = node.broker_id not in oracles.power_cuts and node.broker_id not in oracles.faulty_disks
            oracles.log_oracle.loaded(
                node.broker_id, partition, found, log.log_end_offset, whole=whole, damaged=damaged
            )
            if not damaged:
                oracles.check_epochs(log, partition)
        for partition, known in oracles.logs.on(node.broker_id):
            if partition not in manager.logs:
                oracles.log_missing(node, partition, known)
        oracles.power_cuts.discard(node.broker_id)

    def _delete(self, delete: Callable[..., None], manager: LogManager, partition: TopicIdPartition) -> None:
        oracles = self._oracles
        broker_id = current_node_id()
        name = str(manager.logs[partition].topic_partition)
        delete(manager, partition)
        gone = partition.topic_id in oracles.metadata.removed or (broker_id, partition) in oracles.metadata.unassigned
        hosted = (broker_id, oracles.run_of(f"broker-{broker_id}"), partition) in oracles.hosted
        if not gone or not hosted:
            why = "is still its replica" if not gone else "was never its to serve since it started"
            oracles.findings.report(24, f"broker {broker_id} deleted the log of {name} ({partition}), which {why}")
        oracles.logs.drop(broker_id, partition)
        oracles.compactions.forget(broker_id, partition)


class _Replicas:
    """Roles and high watermarks."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.after(Partition, "__init__", self._made)
        hooks.after(LeaderReplica, "_high_watermark_advanced", self._advanced)
        oracles.replicas.listen(hooks)
        oracles.departures.listen(hooks)

    def _made(self, _: None, partition: Partition, *__: Any, **___: Any) -> None:
        oracles, broker_id = self._oracles, partition.host.broker_id
        oracles.hosted.add((broker_id, oracles.run_of(f"broker-{broker_id}"), partition.topic_id_partition))
        oracles.logs.names[partition.topic_id_partition] = str(partition)
        if partition.log.config.compacted:
            oracles.logs.compacted.add(partition.topic_id_partition)

    def _advanced(self, _: None, leader: LeaderReplica, high_watermark: int) -> None:
        partition = leader._partition
        self._oracles.replicas.leader_has_committed(partition.topic_id_partition, high_watermark)
        if partition.leader is leader:
            view = leader_view(partition, self._oracles.run_of(f"broker-{partition.host.broker_id}"))
            if view is not None:
                self._oracles.commits.high_watermark(view)


class _Doors:
    """Produces and fetches."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.after(ReplicaManager, "append", self._appended)
        hooks.after(ReplicaManager, "read", self._read)
        hooks.around(ProducerIds, "next_id", self._next_id)

    async def _next_id(self, next_id: Callable[..., Any], ids: ProducerIds) -> ProducerId:
        producer_id: ProducerId = await next_id(ids)
        self._oracles.doors.gave_producer_id(current_node_id(), producer_id)
        return producer_id

    def _serves(self, broker_id: int) -> None:
        node = self._oracles.world.brokers[broker_id]
        server = serving_server(node)
        if server is not None:
            self._oracles.doors.served(broker_id, self._oracles.first_epoch(node), acts_on(node))

    def _appended(self, outcomes: Any, manager: ReplicaManager, requests: Any, acks: int, timeout_ms: int) -> None:
        broker_id = manager._partitions.broker_id
        known = outcomes if isinstance(outcomes, list) else None
        for index, request in enumerate(requests):
            partition = manager.get(request.topic, request.partition)
            if known is not None and known[index].error is not ErrorCode.NONE:
                continue
            if known is not None and partition is not None:
                self._oracles.doors.epochs(
                    broker_id, str(partition), "produce", request.current_leader_epoch, partition.leader_epoch
                )
        self._serves(broker_id)
        if acks != -1:
            return
        if known is not None:
            self._check_acks(manager, requests, known)
        else:
            outcomes.add_done_callback(
                lambda done: None if done.cancelled() else self._check_acks(manager, requests, done.result())
            )

    def _check_acks(self, manager: ReplicaManager, requests: Any, outcomes: Any) -> None:
        for request, outcome in zip(requests, outcomes, strict=True):
            partition = manager.get(request.topic, request.partition)
            if outcome.error is ErrorCode.NONE and partition is not None and outcome.base_offset is not None:
                last_offset = outcome.base_offset + parse_header(request.records).last_offset_delta
                if partition.topic_id_partition in self._oracles.unclean_elections:
                    committed = self._oracles.metadata.image.partition(*partition.topic_id_partition)
                    if committed is not None and committed.leader_epoch != partition.leader_epoch:
                        continue  # it does not know yet that it was deposed, and has all of its old ISR
                whom = f"a producer at broker {manager._partitions.broker_id}"
                self._oracles.commits.acked(partition.topic_id_partition, last_offset, whom)

    def _read(self, outcomes: Any, manager: ReplicaManager, fetch: Any) -> None:
        broker_id = manager._partitions.broker_id
        for request, outcome in zip(fetch.partitions, outcomes, strict=True):
            partition = manager.get(request.topic, request.partition)
            if outcome.error is not ErrorCode.NONE or partition is None:
                continue
            end = max((header.next_offset for _, header in batches(outcome.records)), default=-1)
            self._oracles.doors.read(
                Served(
                    broker_id=broker_id,
                    name=str(partition),
                    asked_epoch=request.current_leader_epoch,
                    leader_epoch=partition.leader_epoch,
                    records_end=end,
                    high_watermark=partition.high_watermark,
                    last_stable_offset=outcome.last_stable_offset,
                    told_high_watermark=outcome.high_watermark,
                )
            )
            self._serves(broker_id)


class _Groups:
    """Offset commits, and coordinators that begin to serve."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.around(GroupCoordinator, "commit_offsets", self._commit)
        hooks.after(GroupShard, "activate", self._activated)
        hooks.after(ShardOffsets, "topics_deleted", self._topics_deleted)
        hooks.after(ClassicGroup, "heartbeat", self._beat)
        hooks.after(ClassicGroup, "check_offset_commit", self._may_commit)
        hooks.around(ClassicGroup, "sync", self._sync)
        hooks.around(Rebalance, "append", self._group_writes)

    async def _commit(self, commit: Callable[..., Any], coordinator: GroupCoordinator, request: Any) -> Any:
        groups, shard = self._oracles.groups, coordinator._topic.partition_of(request.group_id)
        tries = [
            groups.began(
                request.group_id,
                -1 if shard is None else shard,
                TopicPartition(each.topic, each.partition),
                int(each.offset),
                self._oracles.now_s,
            )
            for each in request.offsets
        ]
        answer = await commit(coordinator, request)
        for one, error in zip(tries, answer.errors, strict=True):
            if error is ErrorCode.NONE:
                one.acked_s = self._oracles.now_s
                self._check_epoch(coordinator, shard)
        return answer

    def _check_epoch(self, coordinator: GroupCoordinator, number: int | None) -> None:
        shard = None if number is None else coordinator._shards.get(number)
        leads_in = None if shard is None else _leads_in(shard)
        if shard is not None and leads_in is not None and leads_in != shard.log.leader_epoch:
            self._oracles.findings.report(
                21,
                f"broker {current_node_id()} acked an offset commit as the coordinator of {shard} in leader epoch "
                f"{shard.log.leader_epoch}; it leads in epoch {leads_in}",
            )

    def _beat(self, error: ErrorCode, group: ClassicGroup, request: HeartbeatRequest, _: int) -> None:
        if error in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
            self._took("heartbeat", group, request.generation_id, request.member_id)

    def _may_commit(self, error: ErrorCode, group: ClassicGroup, request: OffsetCommitRequest, _: int) -> None:
        if error is ErrorCode.NONE and request.generation_or_member_epoch >= 0:
            self._took("commit", group, request.generation_or_member_epoch, request.member_id)

    def _sync(
        self, sync: Callable[..., Effects], group: ClassicGroup, request: SyncRequest, ticket: Ticket, now_ms: int
    ) -> Effects:
        effects = sync(group, request, ticket, now_ms)
        answers = [each.answer for each in effects if isinstance(each, Reply) and each.ticket == ticket]
        if all(answer.error is ErrorCode.NONE for answer in answers):
            self._took("sync", group, request.generation_id, request.member_id)
        return effects

    def _took(self, what: str, group: ClassicGroup, asked: int, member: str) -> None:
        known = member in group._rebalance.members
        self._oracles.groups.took(what, group.group_id, asked, group.generation_id, member=member, is_member=known)

    def _group_writes(
        self, append: Callable[..., None], rebalance: Rebalance, record: GroupRecord, pending: PendingAppend
    ) -> None:
        if isinstance(pending, AssignmentAppend):
            self._oracles.groups.handed_in(rebalance, rebalance.group_id, rebalance.generation_id)
        append(rebalance, record, pending)

    def _activated(self, _: None, shard: GroupShard, *__: Any) -> None:
        if shard.log.leads() and shard.log.high_watermark() < shard.log.log_end_offset():
            self._oracles.findings.report(
                21,
                f"broker {current_node_id()} serves {shard} with its log up to {shard.log.log_end_offset()}, of which "
                f"what is past {shard.log.high_watermark()} may be lost again",
            )
        self._oracles.check_offsets(current_node_id(), shard)

    def _topics_deleted(self, _: None, __: ShardOffsets, topics: Any) -> None:
        for topic in topics:
            self._oracles.groups.deleted(topic)


def _leads_in(shard: GroupShard) -> int | None:
    """The leader epoch of the coordinator's replica; None where it does not lead."""
    assert isinstance(shard.log, PartitionGroupLog)
    replica = shard.log._replica_manager.get(OFFSETS_TOPIC, shard.log.partition)
    return None if replica is None or replica.leader is None else replica.leader_epoch
