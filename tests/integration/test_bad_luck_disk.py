"""Disks that fill up and bits that flip: no ack is given that the log does not hold, nothing damaged is served, and
the other replicas make up for it.
"""

from __future__ import annotations

import functools
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from harness.acked_records import AckedRecords, wait_for_isr
from harness.raw_client import NOW_MS, node_log, raw_broker, served_offsets
from harness.record_batches import record_batch
from klamm.client import Admin, NewTopic
from klamm.deploy.layout import NodeSpec
from klamm.deploy.local import LocalCluster
from klamm.deploy.node_process import node_command
from klamm.proto.errors import ErrorCode
from klamm.proto.record_batch import HEADER_SIZE, batches

pytestmark = pytest.mark.integration

MEBIBYTE = 1 << 20
BROKERS = (1, 2, 3)
_numbers = count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(brokers=3, controllers=1) as started:
        yield started
        for broker in BROKERS:
            assert "Traceback" not in node_log(started, broker)


@pytest.fixture
def records(cluster: LocalCluster) -> AckedRecords:
    """A partition on all three brokers, with nothing in it."""
    topic = f"topic-{next(_numbers)}"
    _create(cluster, topic)
    return AckedRecords(cluster, topic)


def _create(cluster: LocalCluster, topic: str, **configs: str) -> None:
    for broker in BROKERS:
        if not cluster.is_running(broker):
            cluster.start_node(broker)
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics(
            [NewTopic(topic, 1, 3, topic_configs={key.replace("_", "."): value for key, value in configs.items()})]
        )


def _leader(cluster: LocalCluster, records: AckedRecords) -> int:
    return cluster.wait_until(lambda: cluster.leader_of(*records.topic_partition), what="a leader")


def _folder(cluster: LocalCluster, broker: int, records: AckedRecords) -> Path:
    return cluster.layout.node(broker).data_folder / str(records.topic_partition)


def _segment(cluster: LocalCluster, broker: int, records: AckedRecords) -> Path:
    return min(_folder(cluster, broker, records).glob("*.log"))


def _whole(path: Path) -> list[int]:
    """The offsets in a segment file, each batch checked."""
    return served_offsets(path.read_bytes())


# --- full disks ----------------------------------------------------------------------------------------------------


def test_rule_27_no_room_in_the_file_moves_the_leadership(cluster: LocalCluster, records: AckedRecords) -> None:
    """A limit on the size of files, put on the leader while it runs and taken off again."""
    topic = records.topic_partition.topic
    records.produce(20, size=10_000)
    wait_for_isr(cluster, topic, BROKERS)
    leader = _leader(cluster, records)
    pid = cluster.pid_of(leader)
    assert pid is not None
    size = _segment(cluster, leader, records).stat().st_size
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 25_000, resource.RLIM_INFINITY))
    try:
        # The third of these does not fit. The producer is none the wiser: another replica takes over.
        records.produce(20, size=10_000)
        assert _leader(cluster, records) != leader
        wait_for_isr(cluster, topic, [broker for broker in BROKERS if broker != leader])
        assert cluster.pid_of(leader) == pid, "the process lives: it has other partitions"
        assert _segment(cluster, leader, records).stat().st_size <= size + 25_000
        # Nothing that the full disk refused is in its log, and what is there is whole.
        assert _whole(_segment(cluster, leader, records))
        records.assert_all_there()
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    wait_for_isr(cluster, topic, BROKERS)
    records.produce(5)
    records.assert_all_there()
    log = node_log(cluster, leader)
    assert "File too large" in log
    assert f"replica_failed partition={topic}-0" in log


def test_rule_27_the_only_replica_on_a_full_disk_refuses_and_serves_what_it_has(cluster: LocalCluster) -> None:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic("alone", replica_assignments={0: [1]})])
    records = AckedRecords(cluster, "alone")
    records.produce(3, size=10_000)
    pid = cluster.pid_of(1)
    assert pid is not None
    size = _segment(cluster, 1, records).stat().st_size
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 5_000, resource.RLIM_INFINITY))
    batch = bytes(record_batch([bytes(10_000)], timestamps=NOW_MS))
    try:
        with raw_broker(cluster, 1) as broker:
            for _ in range(3):
                answer = broker.produce("alone", batch)
                assert answer.error_code in (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_LEADER_OR_FOLLOWER)
                assert ErrorCode.of(answer.error_code).retriable
            cluster.wait_until(lambda: broker.fetch("alone").error_code == 0, what="reads from the only replica")
            assert served_offsets(broker.fetch("alone").records) == [0, 1, 2]
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    records.produce(3, size=10_000)
    records.assert_all_there()
    assert sorted(records.values) == list(range(6)), "what was refused left no trace"


@functools.cache
def _may_mount() -> bool:
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def _on_small_disk(spec: NodeSpec, *, new_quorum: bool) -> Sequence[str]:
    """Broker 1 gets a tmpfs of 4 MiB of its own, which goes with its process."""
    command = node_command(spec, new_quorum=new_quorum)
    if spec.name != "broker-1":
        return command
    spec.data_folder.mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size=4m tmpfs {shlex.quote(str(spec.data_folder))}"
    return ["unshare", "--mount", "sh", "-c", f"{mount} && exec {shlex.join(command)}"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs leave to mount a tmpfs")
def test_rule_27_a_full_disk_stops_neither_the_broker_nor_the_partition() -> None:
    if not _may_mount():
        pytest.skip("may not mount a tmpfs here")
    with LocalCluster(brokers=3, controllers=1, command=_on_small_disk) as cluster:
        with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            configs = {"file.delete.delay.ms": "0"}
            topics = [NewTopic(f"full-{n}", 1, 3, {0: [1, 2, 3]}, configs) for n in range(2)]
            admin.create_topics(topics)
        full = [AckedRecords(cluster, topic.name) for topic in topics]
        assert cluster.leader_of("full-0") == 1
        for records in full:
            records.produce(90, size=50_000)  # 4.5 MB, more than all of the disk
            assert cluster.wait_until(lambda topic=records.topic_partition.topic: cluster.leader_of(topic)) != 1
        wait_for_isr(cluster, "full-0", [2, 3])
        assert "No space left on device" in node_log(cluster, 1)
        # A topic that cannot even get its folder there is led elsewhere too.
        with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            admin.create_topics([NewTopic("late", replica_assignments={0: [1, 2, 3]})])
        late = AckedRecords(cluster, "late")
        late.produce(5, size=50_000)
        for records in (*full, late):
            records.assert_all_there()
        assert cluster.is_running(1)
        # Room again: it catches up.
        with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            admin.delete_topics(["full-0", "full-1"])
        wait_for_isr(cluster, "late", BROKERS)
        assert "Traceback" not in node_log(cluster, 1)


# --- flipped bits --------------------------------------------------------------------------------------------------


def _flip(path: Path, where: str) -> int:
    """Flips one bit in a batch at the head, in the middle or at the tail of a segment; returns its base offset."""
    data = bytearray(path.read_bytes())
    found = list(batches(data))
    position, header = found[{"head": 0, "middle": len(found) // 2, "tail": -1}[where]]
    data[position + HEADER_SIZE + 20] ^= 0x10
    with path.open("r+b") as file:
        file.write(data)
    return header.base_offset


@pytest.mark.parametrize("where", ["head", "middle", "tail"])
@pytest.mark.parametrize("stop", ["stopped", "killed"])
def test_rule_18_a_bit_flipped_while_the_broker_was_down(
    cluster: LocalCluster, records: AckedRecords, where: str, stop: str
) -> None:
    topic = records.topic_partition.topic
    records.produce(30, size=1_000)
    wait_for_isr(cluster, topic, BROKERS)
    victim = _leader(cluster, records)
    if stop == "stopped":
        cluster.stop_node(victim)
    else:
        cluster.kill(victim)
    segment = _segment(cluster, victim, records)
    offset = _flip(segment, where)
    cluster.start_node(victim)
    wait_for_isr(cluster, topic, BROKERS)
    records.produce(3)
    _assert_healed(cluster, records, victim, offset)


@pytest.mark.parametrize("where", ["head", "middle", "tail"])
def test_a_bit_flipped_under_the_running_leader_is_never_served(
    cluster: LocalCluster, records: AckedRecords, where: str
) -> None:
    topic = records.topic_partition.topic
    records.produce(30, size=1_000)
    wait_for_isr(cluster, topic, BROKERS)
    victim = _leader(cluster, records)
    offset = _flip(_segment(cluster, victim, records), where)
    records.assert_all_there()  # the consumer finds it, and is served by another
    assert _leader(cluster, records) != victim
    assert f"is corrupt at offset {offset}" in node_log(cluster, victim)
    _assert_healed(cluster, records, victim, offset)


@pytest.mark.parametrize("where", ["head", "tail"])
def test_a_bit_flipped_under_a_running_follower_is_never_served(
    cluster: LocalCluster, records: AckedRecords, where: str
) -> None:
    """A follower reads nothing that it has, so it is found once it leads."""
    topic = records.topic_partition.topic
    records.produce(30, size=1_000)
    wait_for_isr(cluster, topic, BROKERS)
    leader = _leader(cluster, records)
    for broker in BROKERS:
        if broker != leader:
            offset = _flip(_segment(cluster, broker, records), where)
            break
    victim = broker
    records.produce(3)
    _assert_healed(cluster, records, victim, offset)


def _assert_healed(cluster: LocalCluster, records: AckedRecords, victim: int, offset: int) -> None:
    """Made leader, the victim serves every acked record; or it finds the damage, refetches, and then does."""
    topic = records.topic_partition.topic
    for _ in range(3):
        wait_for_isr(cluster, topic, BROKERS)
        others = [broker for broker in BROKERS if broker != victim]
        with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            # The preferred leader is the first replica.
            admin.alter_partition_reassignments({(topic, 0): [victim, *others]})
            cluster.wait_until(lambda: not admin.list_partition_reassignments(), what="the reassignment")
            admin.elect_leaders([(topic, 0)])
        records.assert_all_there()
        if cluster.leader_of(topic) == victim:
            break
    assert cluster.leader_of(topic) == victim, "it cannot lead what it refetched"
    wait_for_isr(cluster, topic, BROKERS)
    paths = [_segment(cluster, broker, records) for broker in BROKERS]
    assert len({path.read_bytes() for path in paths}) == 1, "replicas differ"
    assert offset in _whole(paths[0])
