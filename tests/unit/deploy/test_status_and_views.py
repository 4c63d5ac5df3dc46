"""What people and programs are shown."""

from __future__ import annotations

import pytest
from klamm.deploy.cluster_status import ClusterStatus, NodeStatus, TopicStatus
from klamm.deploy.demo_view import LiveView, PlainView, Rates, Snapshot
from klamm.deploy.tables import print_nodes, print_status
from klamm.proto.broker_pb2 import PartitionDescription


def _controller(**changes: object) -> NodeStatus:
    fields: dict[str, object] = {
        "node": "controller-1",
        "role": "controller",
        "node_id": 1,
        "pid": 11,
        "address": "127.0.0.1:9292",
        "data_folder": "/d/c",
        "log": "/d/log.txt",
        "process": "running",
        "lag": 0,
        "is_leader": True,
    }
    return NodeStatus(**{**fields, **changes})  # type: ignore[arg-type]


def _broker(**changes: object) -> NodeStatus:
    fields: dict[str, object] = {
        "node": "broker-1",
        "role": "broker",
        "node_id": 1,
        "pid": 12,
        "address": "127.0.0.1:9192",
        "data_folder": "/d/b",
        "log": "/d/log.txt",
        "process": "running",
        "fenced": False,
        "broker_epoch": 5,
        "kafka_address": "127.0.0.1:9092",
    }
    return NodeStatus(**{**fields, **changes})  # type: ignore[arg-type]


def _status(*nodes: NodeStatus, **changes: object) -> ClusterStatus:
    fields: dict[str, object] = {
        "cluster_id": "c",
        "bootstrap_servers": "127.0.0.1:9192",
        "controller_epoch": 3,
        "active_controller": "controller-1",
        "nodes": nodes or (_controller(), _broker()),
        "topics": (TopicStatus("t", 3, (), ()),),
    }
    return ClusterStatus(**{**fields, **changes})  # type: ignore[arg-type]


def test_healthy() -> None:
    assert _status().healthy
    assert _status().to_json()["healthy"] is True


@pytest.mark.parametrize(
    "status",
    [
        _status(_controller(process="down", pid=None), _broker()),
        _status(_controller(), _broker(process="paused")),
        _status(_controller(), _broker(fenced=True)),
        _status(_controller(), _broker(fenced=None)),
        _status(active_controller=None),
        _status(topics=None),
        _status(topics=(TopicStatus("t", 3, (1,), ()),)),
        _status(topics=(TopicStatus("t", 3, (), (2,)),)),
    ],
)
def test_not_healthy(status: ClusterStatus) -> None:
    assert not status.healthy


def test_state_in_words() -> None:
    assert [_controller().state, _controller(is_leader=False).state] == ["running, leader", "running"]
    assert [_broker().state, _broker(fenced=True).state, _broker(process="down").state] == [
        "running",
        "running, fenced",
        "down",
    ]


def test_tables_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    status = _status(topics=(TopicStatus("orders", 20, tuple(range(12)), (3,)),))
    print_nodes(status)
    print_status(status)
    shown = capsys.readouterr().out
    for word in (
        "controller-1",
        "running, leader",
        "127.0.0.1:9192",
        "127.0.0.1:9092",
        "/d/b",
        "term 3",
        "unfenced",
        "orders",
    ):
        assert word in shown
    assert "12 (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)" in shown
    assert "1 (3)" in shown


def test_no_broker_answers(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(_status(topics=None, controller_epoch=None))
    assert "no broker answers" in capsys.readouterr().out


def test_rates_are_per_second_since_the_last_look() -> None:
    now = [100.0]
    rates = Rates(lambda: now[0])
    now[0] += 2
    assert rates.since_last(1000, 500) == (500, 250)
    now[0] += 0.5
    assert rates.since_last(1100, 500) == (200, 0)
    assert rates.elapsed == 2.5


SNAPSHOT = Snapshot(
    total=100,
    sent=50,
    acked=40,
    consumed=30,
    partitions=(
        PartitionDescription(partition=0, leader_id=2, leader_epoch=7, replicas=[1, 2, 3], isr=[2, 3]),
        PartitionDescription(partition=1, leader_id=-1, leader_epoch=8, replicas=[1, 2, 3], isr=[]),
    ),
    high_watermarks={0: 1234},
)


def test_plain_view(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainView() as view:
        view._next = 0.0
        view.show(SNAPSHOT)
        view.show(SNAPSHOT)  # too early for another line
        view.event("something fell")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "acked 40 of 100" in lines[0]
    assert "leaders 2,-1, in sync 2,0" in lines[0]
    assert "something fell" in lines[1]


def test_live_view(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveView() as view:
        view.show(SNAPSHOT)
        view.event("something fell")
    shown = capsys.readouterr().out
    for word in ("broker-2", "2, 3", "1,234", "none", "something fell", "acked 40 of 100"):
        assert word in shown
    (event_line,) = [line for line in shown.splitlines() if "something fell" in line]
    assert "\u2501" not in event_line, "the bar and the first event stand on one line"
