"""Groups in the admin client and on the command line, against a fake cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from harness.fake_broker import FakeCluster
from harness.fake_group_coordinator import GroupFault
from klamm.client import Admin, Consumer, ConsumerRebalanceListener, KafkaError, OffsetAndMetadata, TopicPartition
from klamm.client.loop_thread import loop_thread
from klamm.proto.errors import (
    CommitFailedError,
    ErrorCode,
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    NonEmptyGroupError,
    UnknownMemberIdError,
    WakeupError,
)
from unit.client.test_cli import klamm
from unit.client.test_consumer import fill

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    async def start() -> FakeCluster:
        cluster = await FakeCluster().start()
        cluster.create_topic("orders", 2)
        fill(cluster, 0, 20)
        fill(cluster, 1, 30)
        return cluster

    cluster = loop_thread().run(start())
    yield cluster
    loop_thread().run(cluster.stop())


@pytest.fixture
def admin(cluster: FakeCluster) -> Iterator[Admin]:
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        yield admin


def member(cluster: FakeCluster, group: str = "g", **arguments: Any) -> Consumer:
    consumer = Consumer(
        bootstrap_servers=cluster.bootstrap_servers,
        group_id=group,
        client_id="app",
        auto_offset_reset="earliest",
        heartbeat_interval_ms=30,
        **arguments,
    )
    consumer.subscribe(["orders"])
    while not consumer.assignment():
        consumer.poll(5000)
    return consumer


def read(consumer: Consumer, count: int) -> int:
    found = 0
    while found < count:
        found += sum(map(len, consumer.poll(5000).values()))
    return found


def test_groups_are_listed_and_described(cluster: FakeCluster, admin: Admin) -> None:
    assert admin.list_consumer_groups() == []
    with member(cluster) as consumer:
        admin.alter_consumer_group_offsets("idle", {P0: 5})
        assert [(group.group_id, group.state) for group in admin.list_consumer_groups()] == [
            ("g", "Stable"),
            ("idle", "Empty"),
        ]
        assert [group.group_id for group in admin.list_consumer_groups(states=["Empty"])] == ["idle"]
        described = admin.describe_consumer_groups(["g", "idle"])
        assert described["idle"].members == ()
        group = described["g"]
        assert (group.state, group.protocol_type, group.protocol) == ("Stable", "consumer", "range")
        [entry] = group.members
        assert (entry.client_id, entry.topics, entry.assignment) == ("app", ("orders",), (P0, P1))
        assert entry.member_id == consumer.group_metadata().member_id
    with pytest.raises(GroupIdNotFoundError, match="nobody"):
        admin.describe_consumer_groups(["nobody"])


def test_offsets_are_read_set_and_deleted(cluster: FakeCluster, admin: Admin) -> None:
    admin.alter_consumer_group_offsets("g", {P0: OffsetAndMetadata(5, "note"), P1: 7})
    assert admin.list_consumer_group_offsets("g") == {P0: OffsetAndMetadata(5, "note"), P1: OffsetAndMetadata(7)}
    assert admin.list_consumer_group_offsets("g", [P1]) == {P1: OffsetAndMetadata(7)}
    with member(cluster):
        with pytest.raises(NonEmptyGroupError, match="has members"):
            admin.alter_consumer_group_offsets("g", {P0: 0})
        with pytest.raises(GroupSubscribedToTopicError, match="orders-1"):
            admin.delete_consumer_group_offsets("g", [P1])
        with pytest.raises(NonEmptyGroupError):
            admin.delete_consumer_groups(["g"])
    admin.delete_consumer_group_offsets("g", [P1])
    assert set(admin.list_consumer_group_offsets("g")) == {P0}
    admin.delete_consumer_groups(["g"])
    with pytest.raises(GroupIdNotFoundError):
        admin.delete_consumer_groups(["g"])
    offsets = admin.list_offsets({P0: -1, P1: -2})
    assert {partition: entry and entry.offset for partition, entry in offsets.items()} == {P0: 20, P1: 0}


def test_members_are_removed(cluster: FakeCluster, admin: Admin) -> None:
    with member(cluster, group_instance_id="one"):
        with pytest.raises(UnknownMemberIdError, match="'two'"):
            admin.remove_members_from_consumer_group("g", group_instance_ids=["two"])
        admin.remove_members_from_consumer_group("g")
        assert admin.describe_consumer_groups(["g"])["g"].members == ()


def test_calls_are_tried_again_where_the_coordinator_moves(cluster: FakeCluster, admin: Admin) -> None:
    for call in ("OffsetCommit", "OffsetFetch", "DescribeGroups"):
        cluster.groups.faults.append(GroupFault(call, ErrorCode.NOT_COORDINATOR, times=2))
    admin.alter_consumer_group_offsets("g", {P0: 5})
    assert admin.list_consumer_group_offsets("g") == {P0: OffsetAndMetadata(5)}
    assert admin.describe_consumer_groups(["g"])["g"].state == "Empty"


def test_the_blocking_consumer_commits_wakes_and_tells_its_listener_in_its_own_thread(cluster: FakeCluster) -> None:
    threads: list[threading.Thread] = []
    told: list[Any] = []

    class Listener(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
            threads.append(threading.current_thread())
            assert consumer.committed(P0) is None
            consumer.seek(P0, 15)

    class Asynchronous(ConsumerRebalanceListener):
        async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
            raise AssertionError("nobody awaits it")

    settings: dict[str, Any] = {"bootstrap_servers": cluster.bootstrap_servers, "auto_offset_reset": "earliest"}
    with Consumer(group_id="g", enable_auto_commit=False, **settings) as consumer:
        consumer.subscribe(["orders"], listener=Listener())
        assert read(consumer, 35) == 35
        assert threads == [threading.current_thread()]
        with pytest.raises(CommitFailedError), member(cluster, "other") as evicted:
            cluster.groups.restart()
            evicted.commit()
        future = consumer.commit_async({P0: 16}, callback=lambda offsets, error: told.append(error))
        with pytest.raises(CommitFailedError):
            future.result(5)
        consumer.poll()
        assert isinstance(told[0], CommitFailedError)
        timer = threading.Timer(0.05, consumer.wakeup)
        timer.start()
        with pytest.raises(WakeupError):
            read(consumer, 1000)
        timer.join()
    with Consumer(group_id="h", **settings) as consumer:
        consumer.subscribe(["orders"], listener=Asynchronous())
        with pytest.raises(KafkaError, match="AsyncConsumer"):
            read(consumer, 1)


def test_a_blocking_consumers_commits_keep_their_order_whatever_kind_they_are(cluster: FakeCluster) -> None:
    with member(cluster, auto_commit_interval_ms=0, max_poll_records=1) as consumer:
        for _ in range(20):
            consumer.poll(2000)
            consumer.commit_async()
    for partition in (0, 1):
        offsets = [commit[3] for commit in cluster.groups.commits if commit[2] == partition]
        assert offsets == sorted(offsets)


def test_iterating_commits_what_was_taken_out(cluster: FakeCluster) -> None:
    with Consumer(
        "orders", bootstrap_servers=cluster.bootstrap_servers, group_id="g", auto_offset_reset="earliest"
    ) as consumer:
        taken = [next(consumer) for _ in range(17)]
    by_partition = {partition: sum(record.partition == partition for record in taken) for partition in (0, 1)}
    committed = {place[2]: offset for place, (offset, _, _) in cluster.groups.offsets.items()}
    assert {partition: committed.get(partition, 0) for partition in (0, 1)} == by_partition


# --- klamm groups ---------------------------------------------------------------------------------------------------


def test_klamm_groups_list_and_describe(cluster: FakeCluster, admin: Admin) -> None:
    assert "no groups" in klamm("groups", "list", cluster=cluster).stdout
    admin.alter_consumer_group_offsets("idle", {P0: 5, TopicPartition("gone", 0): 3})
    with member(cluster) as consumer:
        consumer.commit({P0: 12})
        listed = klamm("groups", "list", cluster=cluster).stdout
        assert "idle" in listed and "Stable" in listed
        assert "No group is Dead" in klamm("groups", "list", "--state", "Dead", cluster=cluster).stdout
        assert len(json.loads(klamm("groups", "list", "--json", cluster=cluster).stdout)) == 2
        shown = klamm("groups", "describe", "g", cluster=cluster).stdout
        assert "group g   Stable   1 member" in shown
        row = next(line.split() for line in shown.splitlines() if line.split()[:2] == ["orders", "0"])
        assert row[2:5] == ["12", "20", "8"] and row[-1] == "app" and row[5] == consumer.group_metadata().member_id
        row = next(line.split() for line in shown.splitlines() if line.split()[:2] == ["orders", "1"])
        assert row[2:5] == ["-", "30", "-"]
        document = json.loads(klamm("groups", "describe", "--json", cluster=cluster).stdout)
        idle = {entry["topic"]: entry for entry in document[1]["offsets"]}
        assert (idle["orders"]["lag"], idle["gone"]["log_end_offset"]) == (15, None)
        members = klamm("groups", "describe", "g", "--members", cluster=cluster).stdout
        assert "orders-0, orders-1" in members
        assert "range" in klamm("groups", "describe", "g", "--state", cluster=cluster).stdout
        refused = klamm("groups", "reset-offsets", "g", "-t", "orders", "--to-earliest", cluster=cluster)
        assert refused.exit_code == 1 and "is Stable and has 1 members; stop them first" in refused.stderr
        assert klamm("groups", "delete", "g", cluster=cluster).exit_code == 1
    assert klamm("groups", "delete", "g", "idle", cluster=cluster).exit_code == 0
    missing = klamm("groups", "describe", "g", cluster=cluster)
    assert missing.exit_code == 1 and missing.stderr.startswith("klamm: group 'g'")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to-earliest"], (0, 0)),
        (["--to-latest"], (20, 30)),
        (["--to-current"], (5, 30)),
        (["--to-offset", "25"], (20, 25)),
        (["--to-datetime", "1008"], (8, 8)),
        (["--to-datetime", "2999-01-01T00:00:00"], (20, 30)),
        (["--by-duration", "P1DT2H3M4.5S"], (20, 30)),
    ],
)
def test_klamm_groups_reset_offsets(
    cluster: FakeCluster, admin: Admin, arguments: list[str], expected: tuple[int, int]
) -> None:
    admin.alter_consumer_group_offsets("g", {P0: 5})
    command = ["groups", "reset-offsets", "g", "--topic", "orders", *arguments]
    dry = klamm(*command, cluster=cluster)
    assert dry.exit_code == 0 and "--execute" in dry.stdout
    assert admin.list_consumer_group_offsets("g") == {P0: OffsetAndMetadata(5)}
    done = klamm(*command, "--execute", "--json", cluster=cluster)
    told = {entry["partition"]: entry["new_offset"] for entry in json.loads(done.stdout)["offsets"]}
    found = {partition.partition: entry.offset for partition, entry in admin.list_consumer_group_offsets("g").items()}
    assert found == told == dict(enumerate(expected))


def test_klamm_groups_reset_offsets_of_some_partitions(cluster: FakeCluster, admin: Admin) -> None:
    admin.alter_consumer_group_offsets("g", {P0: 5, P1: 5})
    shift = ["groups", "reset-offsets", "g", "--shift-by", "-3", "--execute"]
    assert klamm(*shift, "--topic", "orders:1", cluster=cluster).exit_code == 0
    assert klamm(*shift, "--all-topics", cluster=cluster).exit_code == 0
    assert admin.list_consumer_group_offsets("g") == {P0: OffsetAndMetadata(2), P1: OffsetAndMetadata(0)}
    missing = klamm(*shift, "--topic", "orders:1,7", cluster=cluster)
    assert missing.exit_code == 1 and "no partition 7" in missing.stderr
    nothing = klamm("groups", "reset-offsets", "new", "--shift-by", "1", "-t", "orders", cluster=cluster)
    assert nothing.exit_code == 1 and "nothing to shift" in nothing.stderr
    nobody = klamm("groups", "reset-offsets", "new", "--to-latest", "--all-topics", cluster=cluster)
    assert nobody.exit_code == 1 and "committed nothing" in nobody.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t", "orders"], "give one of"),
        (["-t", "orders", "--to-latest", "--to-earliest"], "give one of"),
        (["--to-latest"], "--topic or --all-topics"),
        (["--to-latest", "-t", "orders", "--all-topics"], "--topic or --all-topics"),
        (["--to-latest", "-t", "orders:x"], "TOPIC:P"),
        (["--by-duration", "1h", "-t", "orders"], "ISO 8601"),
        (["--by-duration", "P", "-t", "orders"], "ISO 8601"),
        (["--to-datetime", "yesterday", "-t", "orders"], "--to-datetime"),
    ],
)
def test_klamm_groups_used_wrongly(arguments: list[str], message: str) -> None:
    outcome = klamm("groups", "reset-offsets", "g", *arguments)
    assert outcome.exit_code == 2 and message in outcome.stderr


def test_klamm_consume_in_a_group_commits_what_it_printed_and_no_more(cluster: FakeCluster, admin: Admin) -> None:
    command = ["consume", "orders", "--group", "g", "-b", "-f", "%p:%o "]
    first = klamm(*command, "-n", "7", cluster=cluster).stdout.split()
    rest = klamm(*command, "--exit-at-end", cluster=cluster).stdout.split()
    assert len(first) == 7
    assert sorted(first + rest) == sorted(
        [f"0:{offset}" for offset in range(20)] + [f"1:{offset}" for offset in range(30)]
    )
    assert klamm(*command, "--exit-at-end", cluster=cluster).stdout == ""
    assert klamm(*command, "-p", "1", cluster=cluster).exit_code == 2
