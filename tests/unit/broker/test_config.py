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
    assert config.retention_check_interval_ms == 300_000
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
        ("log.retention.check.interval.ms=0", "between 1 and"),
        ("num.partitions=3", "num.partitions"),
        ("min.insync.replicas=1", "holds for the whole cluster"),
        ("unclean.leader.election.enable=true", "holds for the whole cluster"),
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


# --- listeners -------------------------------------------------------------------------------------------------


def test_a_broker_listens_for_kafka_clients_unless_its_listeners_leave_them_out(tmp_path: Path) -> None:
    kafka = load(tmp_path, MINIMAL).kafka
    assert kafka is not None and (kafka.listen, kafka.advertised) == (("127.0.0.1", 9092), None)
    assert load(tmp_path, MINIMAL + "listeners=GRPC://127.0.0.1:9192\n").kafka is None


def test_each_listener_may_be_advertised_elsewhere(tmp_path: Path) -> None:
    both = MINIMAL + "listeners=GRPC://0.0.0.0:1,KAFKA://0.0.0.0:2\n"
    config = load(tmp_path, both + "advertised.listeners=KAFKA://kafka.example:9092\n")
    assert config.kafka is not None
    assert (config.kafka.listen, config.kafka.advertised) == (("0.0.0.0", 2), ("kafka.example", 9092))
    assert (config.listen, config.advertised) == (("0.0.0.0", 1), None)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("listeners=KAFKA://127.0.0.1:9092", "GRPC://host:port is missing"),
        ("listeners=GRPC://127.0.0.1:0,KAFKA://0.0.0.0:9092", "advertised.listeners"),
        ("listeners=GRPC://127.0.0.1:0,KAFKA://[::]:9092", "clients cannot connect"),
        ("listeners=GRPC://127.0.0.1:0\nadvertised.listeners=KAFKA://a:1", "KAFKA is not among the listeners"),
        ("advertised.listeners=SASL://a:1", "unknown listener SASL"),
        ("replica.selector.class=Nearest", "replica.selector.class"),
        ("socket.request.max.bytes=0", "socket.request.max.bytes"),
    ],
)
def test_listeners_that_could_not_work_are_refused(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(KafkaConfigurationError, match=words):
        load(tmp_path, MINIMAL + lines + "\n")


def test_limits_of_the_kafka_listener_have_kafkas_names(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        MINIMAL
        + "socket.request.max.bytes=2000\nqueued.max.request.bytes=3000\nconnections.max.idle.ms=4000\n"
        + "max.connections=5\nmax.connections.per.ip=6\nfetch.max.bytes=7000\n"
        + "max.incremental.fetch.session.cache.slots=8\n"
        + "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector\n",
    )
    kafka = config.kafka
    assert kafka is not None
    assert (kafka.request_bytes_max, kafka.queued_request_bytes_max, kafka.connections_idle_ms_max) == (
        2000,
        3000,
        4000,
    )
    assert (kafka.connections_max, kafka.connections_per_ip_max) == (5, 6)
    assert (config.fetch_bytes_max, config.fetch_sessions_max, config.rack_aware_fetch) == (7000, 8, True)
    assert not load(tmp_path, MINIMAL).rack_aware_fetch
