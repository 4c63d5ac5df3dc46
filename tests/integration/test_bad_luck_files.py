"""A broker's small files torn, lost or swapped, and data folders that are in use or somebody else's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from harness.acked_records import AckedRecords, wait_for_isr
from harness.raw_client import node_log
from klamm.broker.log.checkpoints import (
    CLEAN_SHUTDOWN,
    HIGH_WATERMARK_CHECKPOINT,
    LEADER_EPOCH_CHECKPOINT,
    LOG_START_CHECKPOINT,
    PARTITION_METADATA,
    RECOVERY_POINT_CHECKPOINT,
)
from klamm.broker.log.meta_properties import META_PROPERTIES
from klamm.client import Admin, Consumer, NewTopic
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

EXIT_SECONDS = 30
_numbers = count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two brokers; a partition on the first alone shows what that one can do without help."""
    with LocalCluster(brokers=2, controllers=1) as started:
        yield started
        for broker in (1, 2):
            assert "Traceback" not in node_log(started, broker)


@pytest.fixture
def alone(cluster: LocalCluster) -> AckedRecords:
    """Records of several segments, on broker 1 only."""
    return _records(cluster, f"alone-{next(_numbers)}", [1])


@pytest.fixture
def shared(cluster: LocalCluster) -> AckedRecords:
    """Records of several segments, on both brokers."""
    return _records(cluster, f"shared-{next(_numbers)}", [1, 2])


def _records(cluster: LocalCluster, topic: str, replicas: list[int]) -> AckedRecords:
    if not cluster.is_running(1):
        cluster.start_node(1)
    configs = {"segment.bytes": "20000", "index.interval.bytes": "2000"}
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, 1, len(replicas), {0: replicas}, configs)])
    records = AckedRecords(cluster, topic)
    records.produce(60, size=1_000)
    wait_for_isr(cluster, topic, replicas)
    return records


def _data(cluster: LocalCluster) -> Path:
    return cluster.layout.node(1).data_folder


def _folder(cluster: LocalCluster, records: AckedRecords) -> Path:
    return _data(cluster) / str(records.topic_partition)


def _goes_on(cluster: LocalCluster, *all_records: AckedRecords) -> None:
    """Broker 1 comes back with everything, and takes more."""
    cluster.start_node(1)
    for records in all_records:
        records.produce(3)
        records.assert_all_there()


def _tear(path: Path, keep: float) -> None:
    """Cuts a file to this share of its length."""
    data = path.read_bytes()
    assert data, path
    path.write_bytes(data[: min(int(len(data) * keep), len(data) - 1)])


# --- checkpoints and indexes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "clean"), [(0.0, True), (0.3, False), (0.99, True), (0.99, False)])
def test_torn_checkpoints(
    cluster: LocalCluster, alone: AckedRecords, shared: AckedRecords, keep: float, clean: bool
) -> None:
    """All of them at once, cut to nothing, in the middle, and by their last byte."""
    cluster.stop_node(1)
    names = [RECOVERY_POINT_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT]
    if clean:
        assert (_data(cluster) / CLEAN_SHUTDOWN).exists()
    else:
        _tear(_data(cluster) / CLEAN_SHUTDOWN, keep)
    for name in names:
        _tear(_data(cluster) / name, keep)
    for records in (alone, shared):
        _tear(_folder(cluster, records) / LEADER_EPOCH_CHECKPOINT, keep)
    _goes_on(cluster, alone, shared)
    wait_for_isr(cluster, shared.topic_partition.topic, [1, 2])
    assert "checkpoint_torn" in node_log(cluster, 1)


@pytest.mark.parametrize("clean", [True, False])
def test_deleted_checkpoints(cluster: LocalCluster, alone: AckedRecords, shared: AckedRecords, clean: bool) -> None:
    _end(cluster, clean)
    for path in _data(cluster).glob("*-checkpoint"):
        path.unlink()
    for records in (alone, shared):
        (_folder(cluster, records) / LEADER_EPOCH_CHECKPOINT).unlink()
    _goes_on(cluster, alone, shared)
    wait_for_isr(cluster, shared.topic_partition.topic, [1, 2])


def _end(cluster: LocalCluster, clean: bool) -> None:
    if clean:
        cluster.stop_node(1)
    else:
        cluster.kill(1)


@pytest.mark.parametrize(
    ("damage", "clean"),
    [
        ("deleted", True),
        ("deleted", False),
        ("emptied", True),
        ("torn", True),
        ("scrambled", True),
        ("scrambled", False),
    ],
)
def test_index_files(cluster: LocalCluster, alone: AckedRecords, clean: bool, damage: str) -> None:
    _end(cluster, clean)
    found = [*_folder(cluster, alone).glob("*.index"), *_folder(cluster, alone).glob("*.timeindex")]
    found += _folder(cluster, alone).glob("*.snapshot")
    assert len(found) > 4
    for path in found:
        if damage == "deleted":
            path.unlink()
        elif damage == "emptied":
            path.write_bytes(b"")
        elif damage == "torn":
            path.write_bytes(path.read_bytes()[:-3])
        else:
            path.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))
    _goes_on(cluster, alone)
    # By offset and by time, in every segment.
    partition = alone.topic_partition
    with Consumer(bootstrap_servers=cluster.bootstrap_servers) as consumer:
        consumer.assign([partition])
        for offset in range(0, 63, 7):
            consumer.seek(partition, offset)
            records = cluster.wait_until(lambda: consumer.poll(timeout_ms=500, max_records=1))[partition]
            assert (records[0].offset, records[0].value) == (offset, alone.values[offset])
            found_time = consumer.offsets_for_times({partition: records[0].timestamp})[partition]
            assert found_time is not None
            assert found_time.offset <= offset
            assert found_time.timestamp == records[0].timestamp


def test_rule_24_a_folder_without_its_topic_id_is_set_aside(cluster: LocalCluster, shared: AckedRecords) -> None:
    cluster.stop_node(1)
    _tear(_folder(cluster, shared) / PARTITION_METADATA, 0.5)
    before = {path.name: path.read_bytes() for path in _folder(cluster, shared).glob("*.log")}
    _goes_on(cluster, shared)
    wait_for_isr(cluster, shared.topic_partition.topic, [1, 2])
    (aside,) = _data(cluster).glob(f"{shared.topic_partition}.*-stray")
    assert {path.name: path.read_bytes() for path in aside.glob("*.log")} == before
    assert str(aside) in node_log(cluster, 1)


# --- whose folder it is --------------------------------------------------------------------------------------------


def _run(config: Path) -> subprocess.CompletedProcess[str]:
    """A broker that is expected to give up by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "klamm.broker", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS,
        check=False,
    )


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line for the user among the log lines."""
    assert done.returncode != 0
    assert "READY" not in done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    # The broker's log lines begin with the date, gRPC's own with a letter and the day.
    lines = [line for line in done.stderr.splitlines() if not re.match(r"\d{4}-\d\d-\d\d |[IWE]\d{4} ", line)]
    assert len(lines) == 1, done.stderr
    return lines[0]


def _config(cluster: LocalCluster, path: Path, **changed: str) -> Path:
    """Broker 1's configuration with other values, on a port of its own."""
    lines = dict(line.split("=", 1) for line in cluster.layout.config_text(cluster.layout.node(1)).splitlines() if line)
    lines["listeners"] = "GRPC://127.0.0.1:0"
    lines.update({key.replace("_", "."): value for key, value in changed.items()})
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    return path


def test_damaged_meta_properties(cluster: LocalCluster, alone: AckedRecords) -> None:
    cluster.stop_node(1)
    path = _data(cluster) / META_PROPERTIES
    sound = path.read_bytes()
    for content in (b"", b"version=1\nnode.id=one\ndirectory.id=x\n", b"version=9\n", b"\xff\xfe\x00\x01", sound[:30]):
        path.write_bytes(content)
        complaint = _complaint(_run(cluster.layout.node(1).config_path))
        assert str(path) in complaint
        assert path.read_bytes() == content, "it is left for its owner to look at"
    path.write_bytes(sound)
    _goes_on(cluster, alone)


def test_rule_19_a_folder_that_lost_its_meta_properties_is_another_disk(
    cluster: LocalCluster, shared: AckedRecords
) -> None:
    """It may hold anything: the replica joins again from what the leader has."""
    cluster.stop_node(1)
    (_data(cluster) / META_PROPERTIES).unlink()
    shared.produce(3)
    _goes_on(cluster, shared)
    wait_for_isr(cluster, shared.topic_partition.topic, [1, 2])


def test_data_folder_in_use(cluster: LocalCluster, alone: AckedRecords, tmp_path: Path) -> None:
    complaint = _complaint(_run(_config(cluster, tmp_path / "second")))
    assert f"{_data(cluster)} is in use by process {cluster.pid_of(1)}" in complaint
    assert "log.dirs" in complaint
    alone.produce(1)
    alone.assert_all_there()


def test_data_folder_of_another_broker(cluster: LocalCluster, alone: AckedRecords, tmp_path: Path) -> None:
    cluster.stop_node(1)
    complaint = _complaint(_run(_config(cluster, tmp_path / "other", node_id="7")))
    assert "holds the data of broker 1, not of broker 7" in complaint
    assert "log.dirs" in complaint
    _goes_on(cluster, alone)


def test_rule_11_a_broker_with_anothers_id(cluster: LocalCluster, alone: AckedRecords, tmp_path: Path) -> None:
    pid = cluster.pid_of(1)
    complaint = _complaint(_run(_config(cluster, tmp_path / "twin", log_dirs=str(tmp_path / "data"))))
    assert "broker id 1 is taken" in complaint
    assert "node.id" in complaint, f"it does not say what to do: {complaint}"
    assert cluster.pid_of(1) == pid
    alone.produce(1)
    alone.assert_all_there()


def test_data_folder_of_another_cluster(cluster: LocalCluster, alone: AckedRecords, tmp_path: Path) -> None:
    cluster.stop_node(1)
    with LocalCluster(brokers=0, controllers=1) as other:
        servers = ",".join(other.controller_addresses)
        path = tmp_path / "stranger"
        _config(cluster, path)
        text = re.sub(
            r"(?m)^controller\.quorum\.bootstrap\.servers=.*$",
            f"controller.quorum.bootstrap.servers={servers}",
            path.read_text(),
        )
        path.write_text(text)
        complaint = _complaint(_run(path))
    assert f"{_data(cluster)} holds data of another cluster" in complaint
    assert "log.dirs" in complaint
    assert "controller.quorum.bootstrap.servers" in complaint
    _goes_on(cluster, alone)


def test_a_port_in_use(cluster: LocalCluster, tmp_path: Path) -> None:
    address = cluster.layout.node(2).address
    config = _config(cluster, tmp_path / "config", node_id="9", log_dirs=str(tmp_path / "data"))
    config.write_text(re.sub(r"(?m)^listeners=.*$", f"listeners=GRPC://{address}", config.read_text()))
    complaint = _complaint(_run(config))
    assert address in complaint
    assert "port is in use" in complaint
    assert cluster.is_running(2)


def test_a_data_folder_that_cannot_be(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    complaint = _complaint(
        _run(_config(cluster, tmp_path / "config", node_id="9", log_dirs=str(tmp_path / "file" / "x")))
    )
    assert str(tmp_path / "file") in complaint
