"""A controller's configuration file: what is taken, what holds by default, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from klamm.cluster.node_config import Address
from klamm.controller.config import ControllerConfig
from klamm.proto.errors import KafkaConfigurationError

VOTERS = "controller.quorum.voters=0@127.0.0.1:9292,1@127.0.0.1:9293,2@127.0.0.1:9294\n"
FILE = "node.id=1\nmetadata.log.dir=/tmp/x\n" + VOTERS


def test_defaults() -> None:
    config = ControllerConfig.parse(FILE)
    assert config.node_id == 1
    assert config.listen == Address("127.0.0.1", 9293)
    assert (config.session_timeout_ms, config.crash_grace_ms) == (2_000, 250)
    assert config.metadata_tail_records_max == 20_000
    assert config.num_partitions is None
    assert config.metadata_log_dir == Path("/tmp/x")


def test_what_the_file_says_holds() -> None:
    config = ControllerConfig.parse(
        FILE
        + "listeners=CONTROLLER://0.0.0.0:1000\nbroker.session.timeout.ms=500\nnum.partitions=3\n"
        + "controller.quorum.heartbeat.interval.ms=10\ncontroller.quorum.id=blue\n"
        + "metadata.tail.records.max=500\n"
    )
    assert config.listen == Address("0.0.0.0", 1000)
    assert config.session_timeout_ms == 500
    assert config.num_partitions == 3
    assert config.raft.heartbeat_interval_ms == 10
    assert config.quorum_id == "blue"
    assert config.metadata_tail_records_max == 500


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("node.id=7\nmetadata.log.dir=/tmp/x\n" + VOTERS, "node.id=7 is not among controller.quorum.voters"),
        ("node.id=1\n" + VOTERS, "metadata.log.dir is missing"),
        (FILE + "log.dirs=/tmp\n", "unknown key 'log.dirs'; the keys are: auto.leader"),
        (FILE + "listeners=GRPC://127.0.0.1:1\n", "unknown listener GRPC"),
        (FILE + "controller.quorum.id=a b\n", "controller.quorum.id=a b: must be"),
        (
            FILE + "controller.quorum.heartbeat.interval.ms=9999\n",
            "election_timeout_ms_min must be more than three times",
        ),
        (FILE.replace("9294", "0"), "it cannot be 0"),
        (FILE.replace(",2@127.0.0.1:9294", ""), "an odd number"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(KafkaConfigurationError) as refused:
        ControllerConfig.parse(text)
    assert complaint in str(refused.value)


def test_the_only_voter_may_leave_its_port_to_the_kernel() -> None:
    config = ControllerConfig.parse("node.id=0\nmetadata.log.dir=/tmp/x\ncontroller.quorum.voters=0@127.0.0.1:0\n")
    assert config.listen == Address("127.0.0.1", 0)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(KafkaConfigurationError, match="cannot be read"):
        ControllerConfig.load(tmp_path / "absent.properties")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KafkaConfigurationError, match="cannot be read"):
        ControllerConfig.load(tmp_path / "binary")
