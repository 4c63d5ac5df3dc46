from __future__ import annotations

from pathlib import Path

import pytest
from klamm.deploy.layout import ClusterLayout, lay_out


def _layout(**options: object) -> ClusterLayout:
    return lay_out(
        Path("/data"),
        host="127.0.0.1",
        controller_ports=[9292, 9293, 9294],
        broker_ports=[9192, 9193],
        kafka_ports=[9092, 9093],
        quorum_id="q",
        broker_config={"replica.lag.time.max.ms": "1500"},
        controller_config={"broker.session.timeout.ms": "4000"},
        racks=("a", "b"),
    )


def test_names_ids_and_addresses() -> None:
    layout = _layout()
    assert [node.name for node in layout.nodes] == [
        "controller-1",
        "controller-2",
        "controller-3",
        "broker-1",
        "broker-2",
    ]
    assert layout.bootstrap_servers == "127.0.0.1:9192,127.0.0.1:9193"
    assert layout.kafka_bootstrap_servers == "127.0.0.1:9092,127.0.0.1:9093"
    assert layout.controller_addresses == ("127.0.0.1:9292", "127.0.0.1:9293", "127.0.0.1:9294")


@pytest.mark.parametrize(
    ("name", "wanted"), [(2, "broker-2"), ("2", "broker-2"), ("broker-1", "broker-1"), ("controller-3", "controller-3")]
)
def test_node_by_number_or_name(name: int | str, wanted: str) -> None:
    assert _layout().node(name).name == wanted


@pytest.mark.parametrize("name", [0, 3, "controller-4", "x"])
def test_unknown_node_says_which_there_are(name: int | str) -> None:
    with pytest.raises(KeyError, match="controller-1, controller-2"):
        _layout().node(name)


def test_broker_config() -> None:
    layout = _layout()
    assert layout.config_text(layout.node(2)) == (
        "node.id=2\n"
        "controller.quorum.bootstrap.servers=127.0.0.1:9292,127.0.0.1:9293,127.0.0.1:9294\n"
        "listeners=GRPC://127.0.0.1:9193,KAFKA://127.0.0.1:9093\n"
        "log.dirs=/data/broker-2/data\n"
        "broker.rack=b\n"
        "offsets.topic.num.partitions=5\n"
        "replica.lag.time.max.ms=1500\n"
    )


def test_controller_config() -> None:
    layout = _layout()
    assert layout.config_text(layout.node("controller-1")) == (
        "node.id=1\n"
        "controller.quorum.id=q\n"
        "controller.quorum.voters=1@127.0.0.1:9292,2@127.0.0.1:9293,3@127.0.0.1:9294\n"
        "listeners=CONTROLLER://127.0.0.1:9292\n"
        "metadata.log.dir=/data/controller-1/data\n"
        "broker.session.timeout.ms=4000\n"
    )


def test_ipv6_addresses_are_bracketed() -> None:
    layout = lay_out(
        Path("/data"), host="::1", controller_ports=[9292], broker_ports=[9192], kafka_ports=[9092], quorum_id="q"
    )
    assert layout.bootstrap_servers == "[::1]:9192"
    assert layout.kafka_bootstrap_servers == "[::1]:9092"


def test_without_kafka_ports_there_is_no_kafka_listener() -> None:
    layout = lay_out(Path("/data"), host="127.0.0.1", controller_ports=[9292], broker_ports=[9192], quorum_id="q")
    assert layout.kafka_bootstrap_servers == ""
    assert layout.node(1).kafka_address is None
    assert "listeners=GRPC://127.0.0.1:9192\n" in layout.config_text(layout.node(1))


def test_what_is_asked_for_comes_before_what_suits_one_machine() -> None:
    layout = lay_out(
        Path("/data"),
        host="127.0.0.1",
        controller_ports=[9292],
        broker_ports=[9192],
        quorum_id="q",
        broker_config={"offsets.topic.num.partitions": "50"},
    )
    assert "offsets.topic.num.partitions=50\n" in layout.config_text(layout.node(1))
