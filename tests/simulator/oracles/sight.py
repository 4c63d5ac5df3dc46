"""Where the oracles look: the processes' memory and the disks of a world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.fake_file_system import FakeFileSystem
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.partition import Partition
from klamm.broker.server import BrokerServer
from klamm.proto.errors import CorruptRecordError
from klamm.proto.identifiers import TopicIdPartition
from klamm.proto.record_batch import check_batch
from klamm.proto.record_codec import read_batch
from simulator.oracles.breach import Report
from simulator.oracles.commit_oracle import LeaderView
from simulator.oracles.promise_oracle import Record, WholeLog
from simulator.oracles.raft_oracle import RaftView
from simulator.oracles.replica_logs import Batch
from simulator.process import current_process
from simulator.world import BrokerNode, ControllerNode

LOG_DIR: Final = "/simulated/broker"


def current_node_id() -> int:
    """Of the broker or controller whose code runs."""
    process = current_process.get()
    assert process is not None
    return int(process.name.rpartition("-")[2])


def serving_server(node: BrokerNode) -> BrokerServer | None:
    """The broker's program, once its rooms are there."""
    server = node.server
    return server if server is not None and server._has_rooms else None


def replicas(node: BrokerNode) -> tuple[Partition, ...]:
    """Those that a running broker hosts."""
    server = serving_server(node)
    return () if server is None else tuple(server._replica_manager._partitions.by_key.values())


def acts_on(node: BrokerNode) -> int:
    """End of the metadata that the broker acts on; -1 where there is none."""
    server = serving_server(node)
    return -1 if server is None else int(server._metadata.image.end_offset)


def leader_view(partition: Partition, run: int) -> LeaderView | None:
    """A leader as it is; None where there is none."""
    if partition.leader is None:
        return None
    state = partition.leader.state
    pending = state.isr.pending
    grows = pending is not None and pending.isr > state.isr.committed
    effective = partition.config.effective_min_insync_replicas(partition._replication_factor)
    return LeaderView(
        broker_id=partition.host.broker_id,
        partition=partition.topic_id_partition,
        leader_epoch=state.leader_epoch,
        high_watermark=partition.high_watermark,
        committed_isr=state.isr.committed,
        proposed=dict(pending.broker_epochs) if pending is not None and grows else {},
        min_isr=min(state.min_isr, effective),
        image=partition.host._image,  # type: ignore[attr-defined]
        run=run,
    )


def raft_view(node: ControllerNode, run: int) -> RaftView | None:
    """A controller's part in the quorum; None while it takes none."""
    if node.server is None or (core := node.server._raft._core) is None:
        return None
    journal = core._folder.journal
    return RaftView(
        node_id=node.node_id,
        run=run,
        term=journal.getCurrentTerm(),
        voted_for=journal.getVotedForNodeId(),
        leads=core._leads(),
        commit_index=core.commit_index,
        first_index=journal.first_index,
        last_index=journal.last_index,
        synced_index=journal.synced_index,
        entry_at=journal.entry_at,
    )


def _on_disk(disk: FakeFileSystem, folder: str) -> Iterator[tuple[Batch, bytes]]:
    """:raises CorruptRecordError: a batch is not whole, or its CRC is wrong."""
    paths = sorted(path for path in disk.files if path.startswith(f"{folder}/") and path.endswith(".log"))
    for path in paths:
        data = bytes(disk.files[path].data)
        position = 0
        while position < len(data):
            header = check_batch(data, position)
            whole = data[position : position + header.size_bytes]
            yield Batch.of(header, whole), whole
            position += header.size_bytes


def batches_on_disk(disk: FakeFileSystem, folder: str, end_offset: int, report: Report | None) -> list[Batch]:
    """All batches below `end_offset`; the breach of rule 18, where one is damaged and nobody expects it."""
    found: list[Batch] = []
    try:
        for batch, _ in _on_disk(disk, folder):
            if batch.next_offset <= end_offset:
                found.append(batch)
    except CorruptRecordError as error:
        if report is not None:
            end = found[-1].next_offset if found else 0
            report(18, f"the log in {folder} was opened with a damaged batch behind offset {end}: {error}")
    return found


def offsets_by_key(node: BrokerNode, log: PartitionLog) -> dict[bytes | None, list[int]]:
    """Where the records of each key are, on a broker's disk. :raises CorruptRecordError: as `batches_on_disk`."""
    found: dict[bytes | None, list[int]] = {}
    for _, data in _on_disk(node.disk, log.directory):
        for record in read_batch(data):
            if log.log_start_offset <= record.offset < log.log_end_offset:
                found.setdefault(record.key, []).append(record.offset)
    return found


def whole_log(node: BrokerNode, partition: Partition) -> WholeLog:
    """Every record on a broker's disk. :raises CorruptRecordError: as `batches_on_disk`."""
    log = partition.log
    records = {
        record.offset: Record(record.key, record.value)
        for _, data in _on_disk(node.disk, log.directory)
        for record in read_batch(data)
        if log.log_start_offset <= record.offset < log.log_end_offset
    }
    return WholeLog(node.broker_id, log.log_start_offset, log.log_end_offset, records)


def key_of(partition: Partition) -> tuple[int, TopicIdPartition]:
    """Broker and partition."""
    return partition.host.broker_id, partition.topic_id_partition
