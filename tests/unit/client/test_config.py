from __future__ import annotations

from typing import Any

import pytest
from klamm.client.assignors import RangePartitionAssignor
from klamm.client.config import as_bytes, consumer_config, parse_bootstrap_servers, producer_config
from klamm.client.metadata_cache import BrokerAddress
from klamm.client.sticky_assignor import StickyPartitionAssignor
from klamm.proto.errors import KafkaConfigurationError, KafkaError


def test_safe_by_default() -> None:
    config = producer_config({})
    assert (config.acks, config.enable_idempotence, config.max_in_flight_requests_per_connection) == (-1, True, 5)
    assert [address.port for address in config.bootstrap_servers] == [9192, 9193, 9194]


@pytest.mark.parametrize(
    ("servers", "addresses"),
    [
        ("a:1", [("a", 1)]),
        ("a:1, b:2", [("a", 1), ("b", 2)]),
        (["[::1]:9192"], [("::1", 9192)]),
    ],
)
def test_bootstrap_servers(servers: Any, addresses: list[tuple[str, int]]) -> None:
    assert parse_bootstrap_servers(servers) == tuple(BrokerAddress(*address) for address in addresses)


def test_bootstrap_servers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAMM_BOOTSTRAP_SERVERS", "h:77")
    assert parse_bootstrap_servers(None) == (BrokerAddress("h", 77),)


@pytest.mark.parametrize("servers", ["", "a", "a:", ":1", "a:b", "a:0", "a:70000", [], [("a", 1)], "a:²"])
def test_wrong_bootstrap_servers(servers: Any) -> None:
    with pytest.raises(KafkaConfigurationError, match=r"^bootstrap_servers"):
        parse_bootstrap_servers(servers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acks", 2),
        ("acks", True),
        ("compression_type", "brotli"),
        ("batch_size", -1),
        ("batch_size", "16384"),
        ("linger_ms", 1.5),
        ("max_request_size", 64 * 1024 * 1024),
        ("buffer_memory", 0),
        ("key_serializer", "json"),
        ("partitioner", 1),
        ("enable_idempotence", "yes"),
        ("client_id", 1),
        ("request_timeout_ms", 0),
        ("bootstrap_server", "a:1"),
    ],
)
def test_a_wrong_producer_argument_is_named(name: str, value: Any) -> None:
    with pytest.raises(KafkaConfigurationError, match=name):
        producer_config({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("group_id", ""),
        ("group_id", 7),
        ("group_id", "g" * 250),
        ("group_instance_id", "needs a group"),
        ("enable_auto_commit", 1),
        ("auto_commit_interval_ms", -1),
        ("session_timeout_ms", 0),
        ("heartbeat_interval_ms", 45_000),
        ("max_poll_interval_ms", 0),
        ("partition_assignment_strategy", ["fair"]),
        ("partition_assignment_strategy", []),
        ("partition_assignment_strategy", ["range", "range"]),
        ("partition_assignment_strategy", [len]),
        ("default_offset_commit_callback", 1),
        ("auto_offset_reset", "first"),
        ("max_poll_records", 0),
        ("consumer_timeout_ms", -1),
        ("consumer_timeout_ms", float("nan")),
        ("isolation_level", "serializable"),
        ("check_crcs", 1),
        ("acks", "all"),
    ],
)
def test_a_wrong_consumer_argument_is_named(name: str, value: Any) -> None:
    with pytest.raises(KafkaConfigurationError, match=name):
        consumer_config({name: value})


@pytest.mark.parametrize("other", [{"acks": 1}, {"retries": 0}, {"max_in_flight_requests_per_connection": 6}])
def test_kip_679_idempotence_gives_way_unless_it_was_asked_for(other: dict[str, Any]) -> None:
    assert not producer_config(other).enable_idempotence
    with pytest.raises(KafkaConfigurationError, match=r"enable_idempotence=True needs"):
        producer_config({"enable_idempotence": True, **other})


def test_no_group_is_no_error() -> None:
    assert consumer_config({"group_id": None}).auto_offset_reset == "latest"


def test_assignors_are_made_anew_for_each_consumer_since_they_remember() -> None:
    strategy = ["cooperative-sticky", StickyPartitionAssignor, RangePartitionAssignor()]
    made = [consumer_config({"partition_assignment_strategy": strategy}).partition_assignment_strategy for _ in "ab"]
    assert [[assignor.name for assignor in assignors] for assignors in made] == 2 * [
        ["cooperative-sticky", "sticky", "range"]
    ]
    assert made[0][0] is not made[1][0] and made[0][1] is not made[1][1]
    names = [assignor.name for assignor in consumer_config({}).partition_assignment_strategy]
    assert names == ["range", "roundrobin"], "as kafka-python's"
    assert (
        consumer_config({"partition_assignment_strategy": "sticky"}).partition_assignment_strategy[0].name == "sticky"
    )


def test_serializers() -> None:
    class KafkaPythonStyle:
        def serialize(self, topic: str | None, value: str) -> bytes:
            return value.encode()

    config = producer_config({"value_serializer": KafkaPythonStyle(), "key_serializer": str.encode})
    assert as_bytes("value", config.value_serializer, "v") == b"v"
    assert as_bytes("key", config.key_serializer, "k") == b"k"
    assert as_bytes("key", None, bytearray(b"k")) == b"k"
    with pytest.raises(KafkaError, match="value is str, not bytes; give a value_serializer"):
        as_bytes("value", None, "text")
