"""A broker's configuration file: Kafka's names, typed values, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from klamm.broker.config import BrokerConfig
from klamm.proto.errors import KafkaConfigurationError

MINIMAL = "node.id=1\nlog.dirs=/data\ncontroller.quorum.bootstrap.servers=127.0.0.1:9292\n"


def load(tmp_path: Path, text: str) -> BrokerConfig:
    path = tmp_path / "node.properties"
    path.write_text(text)
    return BrokerConfig.load(path)


def test_the_defaults_listen_on_loopback(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert (config.node_id, config.log_dir) == (1, Path("/data"))
    assert config.listen == ("127.0.0.1", 9192)
    assert config.advertised is None
    assert config.heartbeat_interval_ms == 500
    assert config.topic_defaults == {}


def test_cluster_wide_topic_defaults_may_stand_in_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "log.retention.ms=1000\nlisteners=GRPC://0.0.0.0:0\n")
    assert config.topic_defaults == {"log.retention.ms": "1000"}
    assert config.listen == ("0.0.0.0", 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("log.retention.ms=soon", "log.retention.ms"),
        ("log.dirz=/x", "did you mean 'log.dirs'"),
        ("listeners=HTTP://127.0.0.1:80", "unknown listener HTTP"),
        ("listeners=127.0.0.1:80", "listeners"),
        ("broker.heartbeat.interval.ms=0", "between 10 and 60000"),
        ("num.partitions=3", "num.partitions"),
        ("nonsense", "not key=value"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(KafkaConfigurationError, match=words):
        load(tmp_path, MINIMAL + line + "\n")


def test_two_log_dirs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KafkaConfigurationError, match="one folder"):
        load(tmp_path, MINIMAL.replace("/data", "/a,/b"))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KafkaConfigurationError, match=r"node\.id is missing"):
        load(tmp_path, MINIMAL.replace("node.id=1\n", ""))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KafkaConfigurationError, match="cannot be read"):
        BrokerConfig.load(tmp_path / "nowhere")
