"""Consumers in groups, against a fake cluster over real sockets; the group itself is the broker's own state machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.fake_broker import FakeCluster
from harness.fake_group_coordinator import GroupFault
from klamm.client import (
    AsyncConsumer,
    CommitFailedError,
    ConsumerRebalanceListener,
    ConsumerRecord,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetAndMetadata,
    TopicPartition,
    WakeupError,
)
from klamm.client.assignors import Assignor
from klamm.proto.errors import ErrorCode, FencedInstanceIdError, RebalanceInProgressError
from unit.client.test_consumer import fill

P0, P1, P2, P3 = (TopicPartition("orders", number) for number in range(4))
FAST: dict[str, Any] = {"heartbeat_interval_ms": 30, "auto_offset_reset": "earliest"}


class Listener(ConsumerRebalanceListener):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, set[TopicPartition]]] = []

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.told.append(("revoked", revoked))

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.told.append(("assigned", assigned))

    def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        self.told.append(("lost", lost))


class World:
    """A fake cluster and the consumers of one group in it."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.groups = cluster.groups
        self.consumers: list[AsyncConsumer] = []

    async def consumer(self, *topics: str, **arguments: Any) -> AsyncConsumer:
        settings = {"bootstrap_servers": self.cluster.bootstrap_servers, "group_id": "g", **FAST, **arguments}
        consumer = AsyncConsumer(*topics, **settings)
        self.consumers.append(consumer)
        await consumer.start()
        return consumer

    def committed(self, partition: TopicPartition) -> int | None:
        found = self.groups.offsets.get(("g", *partition))
        return None if found is None else found[0]


def run(body: Callable[[World], Awaitable[None]], *, partitions: int = 4, records: int = 10) -> None:
    async def main() -> None:
        async with FakeCluster() as cluster:
            cluster.create_topic("orders", partitions)
            for partition in range(partitions):
                fill(cluster, partition, records)
            world = World(cluster)
            try:
                async with asyncio.timeout(30):
                    await body(world)
            finally:
                for consumer in world.consumers:
                    with contextlib.suppress(KafkaError):
                        await consumer.close(timeout_ms=200)

    asyncio.run(main())


async def until(condition: Callable[[], bool], *consumers: AsyncConsumer) -> list[ConsumerRecord]:
    """Polls the consumers in turn until it holds; what they read."""
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(15):
        while not condition():
            for consumer in consumers:
                for records in (await consumer.poll(10)).values():
                    found += records
            if not consumers:
                await asyncio.sleep(0.005)
    return found


async def read(count: int, *consumers: AsyncConsumer) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(15):
        while len(found) < count:
            for consumer in consumers:
                for records in (await consumer.poll(10)).values():
                    found += records
    return found


def has(consumer: AsyncConsumer, count: int) -> Callable[[], bool]:
    return lambda: len(consumer.assignment()) == count


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "sticky", "cooperative-sticky"])
def test_two_share_and_one_takes_over_where_the_other_left_off(strategy: str) -> None:
    async def body(world: World) -> None:
        first = await world.consumer("orders", partition_assignment_strategy=[strategy])
        found = await read(40, first)
        second = await world.consumer("orders", partition_assignment_strategy=[strategy])
        await until(lambda: len(first.assignment()) == len(second.assignment()) == 2, first, second)
        assert not first.assignment() & second.assignment()
        for partition in range(4):
            fill(world.cluster, partition, 5)
        found += await read(20, first, second)
        await first.close()
        for partition in range(4):
            fill(world.cluster, partition, 5)
        found += await read(20, second)
        await until(has(second, 4), second)
        assert sorted((record.partition, record.offset) for record in found) == [
            (partition, offset) for partition in range(4) for offset in range(20)
        ], "each record once"

    run(body)


def test_a_restart_goes_on_at_the_committed_offset_and_a_new_group_reads_everything() -> None:
    async def body(world: World) -> None:
        first = await world.consumer("orders")
        await read(4, first)
        await first.commit({P0: OffsetAndMetadata(7, "note", 0), P1: 3})
        assert await first.committed(P0) == 7
        assert await first.committed(P0, metadata=True) == OffsetAndMetadata(7, "note", 0)
        assert await first.committed(P2) is None
        await first.close(autocommit=False)
        again = await world.consumer("orders")
        found = await read(3 + 7 + 20, again)
        assert min(record.offset for record in found if record.partition == 0) == 7
        assert min(record.offset for record in found if record.partition == 1) == 3
        other = await world.consumer("orders", group_id="other")
        assert len(await read(40, other)) == 40

    run(body)


def test_auto_commit_covers_what_poll_gave_out_before_and_no_more() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", auto_commit_interval_ms=20, max_poll_records=4)
        assert len(await read(4, consumer)) == 4
        offsets = {commit[3] for commit in world.groups.commits}
        assert offsets <= {0}, "where it began, perhaps; not what was given out just now"
        await asyncio.sleep(0.03)
        await consumer.poll(1000)  # commits the four, gives out more
        await until(lambda: world.committed(P0) == 4)
        assert max(commit[3] for commit in world.groups.commits) == 4

    run(body, partitions=1)


def test_an_auto_commit_never_comes_after_a_newer_commit() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", auto_commit_interval_ms=0, max_poll_records=1)
        await read(1, consumer)
        for _ in range(9):
            assert len(await consumer.poll(1000)) == 1  # begins to commit what it gave out before
            await consumer.commit()
        offsets = [commit[3] for commit in world.groups.commits]
        assert offsets == sorted(offsets) and offsets[-1] == 10

    run(body, partitions=1)


def test_without_auto_commit_nothing_is_committed() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", enable_auto_commit=False, auto_commit_interval_ms=0)
        await read(10, consumer)
        await consumer.unsubscribe()
        assert world.groups.commits == [] and consumer.assignment() == set()
        assert world.groups.group("g").state.value == "Empty"

    run(body, partitions=1)


def test_close_and_unsubscribe_commit_and_leave() -> None:
    async def body(world: World) -> None:
        for end in ("close", "unsubscribe"):
            consumer = await world.consumer("orders")
            await read(10, consumer)
            fill(world.cluster, 0, 10)
            await getattr(consumer, end)()
            assert world.groups.group("g").state.value == "Empty"
        assert [commit[3] for commit in world.groups.commits] == [10, 20]

    run(body, partitions=1)


def test_a_commit_of_everything_given_out_while_iterating_ends_before_the_record_that_is_next() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", enable_auto_commit=False, consumer_timeout_ms=2000)
        async for record in consumer:
            if record.offset == 6:
                await consumer.commit()
                break
        assert world.committed(P0) == 7
        assert world.groups.offsets[("g", "orders", 0)][1] == 0, "the leader epoch goes with it (KIP-320)"

    run(body, partitions=1)


@pytest.mark.parametrize("iterates", [True, False])
def test_records_behind_a_broken_off_iteration_come_next(iterates: bool) -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", consumer_timeout_ms=500)
        async for record in consumer:
            if record.offset == 3:
                break
        if iterates:
            seen = [record.offset async for record in consumer]
        else:
            seen = [record.offset for record in await read(6, consumer)]
        assert seen == [4, 5, 6, 7, 8, 9]

    run(body, partitions=1)


def test_an_iteration_broken_off_among_several_partitions_loses_none_of_their_records() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", consumer_timeout_ms=500, auto_commit_interval_ms=0)
        seen = []
        for _ in range(40):
            async for record in consumer:
                seen.append((record.partition, record.offset))
                break
        assert sorted(seen) == [(partition, offset) for partition in range(4) for offset in range(10)]

    run(body)


def test_a_commit_that_nobody_awaits_is_carried_out_before_the_group_is_left() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", enable_auto_commit=False)
        await read(10, consumer)
        told: list[KafkaError | None] = []
        consumer.commit_async(callback=lambda _, error: told.append(error))
        await consumer.close()
        assert (world.committed(P0), told) == (10, [None])

    run(body, partitions=1)


def test_an_eager_listener_is_told_of_everything_at_each_rebalance() -> None:
    async def body(world: World) -> None:
        listener = Listener()
        first = await world.consumer()
        first.subscribe(["orders"], listener=listener)
        await until(has(first, 4), first)
        second = await world.consumer("orders")
        await until(lambda: len(second.assignment()) == 2 == len(first.assignment()), first, second)
        await first.close()
        everything = {P0, P1, P2, P3}
        assert listener.told == [
            ("revoked", set()),
            ("assigned", everything),
            ("revoked", everything),
            ("assigned", {P0, P1}),
            ("revoked", {P0, P1}),
        ]

    run(body)


def test_kip_429_a_cooperative_listener_is_told_of_what_moves_and_the_rest_is_read_on() -> None:
    async def body(world: World) -> None:
        listener = Listener()
        strategy = {"partition_assignment_strategy": ["cooperative-sticky"]}
        first = await world.consumer(**strategy)
        first.subscribe(["orders"], listener=listener)
        await read(40, first)
        second = await world.consumer("orders", **strategy)
        await until(lambda: len(second.assignment()) == 2 == len(first.assignment()), first, second)
        kept = first.assignment()
        await until(lambda: world.groups.group("g").state.value == "Stable", first, second)
        assert [entry for entry in listener.told if entry[1]] == [
            ("assigned", {P0, P1, P2, P3}),
            ("revoked", {P0, P1, P2, P3} - kept),
        ]
        assert await read_all_rest(world, first, second) == [], "nothing twice: what moved was committed first"

    async def read_all_rest(world: World, *consumers: AsyncConsumer) -> list[ConsumerRecord]:
        found = []
        for _ in range(5):
            for consumer in consumers:
                for records in (await consumer.poll(20)).values():
                    found += records
        return found

    run(body)


def test_no_record_of_a_partition_is_given_out_after_it_was_revoked() -> None:
    async def body(world: World) -> None:
        class Committer(Listener):
            def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
                super().on_partitions_revoked(revoked)
                self.positions = {partition: seen.get(partition, 0) for partition in revoked}

        seen: dict[TopicPartition, int] = {}
        listener = Committer()
        first = await world.consumer(max_poll_records=3)
        first.subscribe(["orders"], listener=listener)
        second: AsyncConsumer | None = None
        async with asyncio.timeout(15):
            while second is None or len(second.assignment()) != 2:
                for partition, records in (await first.poll(20)).items():
                    assert records[0].offset == seen.get(partition, 0), "in order, nothing left out, nothing twice"
                    seen[partition] = records[-1].offset + 1
                if second is None and len(seen) > 1:
                    second = await world.consumer("orders", max_poll_records=3)
                if second is not None:
                    for partition, records in (await second.poll(20)).items():
                        assert records[0].offset == seen.get(partition, 0)
                        seen[partition] = records[-1].offset + 1
        assert len(listener.told) >= 3

    run(body)


def test_the_listener_may_commit_while_it_gives_up_and_seek_while_it_takes_up() -> None:
    async def body(world: World) -> None:
        class Seeker(ConsumerRebalanceListener):
            async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
                for partition in assigned:
                    consumer.seek(partition, 5)

            async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
                if revoked:
                    await consumer.commit({partition: OffsetAndMetadata(1, "by hand") for partition in revoked})

        consumer = await world.consumer(enable_auto_commit=False)
        consumer.subscribe(["orders"], listener=Seeker())
        assert sorted(record.offset for record in await read(5, consumer)) == [5, 6, 7, 8, 9]
        await consumer.close()
        assert world.committed(P0) == 1

    run(body, partitions=1)


def test_what_a_listener_raises_comes_out_of_poll_and_the_assignment_stands() -> None:
    async def body(world: World) -> None:
        class Failing(Listener):
            def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
                raise ValueError("no room")

        consumer = await world.consumer()
        consumer.subscribe(["orders"], listener=Failing())
        with pytest.raises(KafkaError, match="no room") as caught:
            await read(1, consumer)
        assert isinstance(caught.value.__cause__, ValueError)
        assert len(await read(40, consumer)) == 40

    run(body)


def test_a_poll_that_is_cancelled_while_it_takes_up_leaves_nothing_undone() -> None:
    # As by asyncio.wait_for(consumer.getone(), ...): the listener hears of the same again, and what was given up goes
    # to its new owner.
    async def body(world: World) -> None:
        class Slow(Listener):
            async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:  # type: ignore[override]
                super().on_partitions_assigned(assigned)
                if self.hangs:
                    self.hung.set()
                    await asyncio.Event().wait()

            hangs = True
            hung = asyncio.Event()

        async def cancelled_poll() -> None:
            listener.hangs = True
            listener.hung.clear()
            polling = asyncio.ensure_future(poll_for_ever())
            await listener.hung.wait()
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            listener.hangs = False

        async def poll_for_ever() -> None:
            while True:
                await first.poll(10)

        listener = Slow()
        strategy = {"partition_assignment_strategy": ["cooperative-sticky"]}
        first = await world.consumer(**strategy)
        first.subscribe(["orders"], listener=listener)
        await cancelled_poll()
        await read(40, first)
        assert listener.told == [("assigned", {P0, P1, P2, P3})] * 2
        second = await world.consumer("orders", **strategy)
        joining = asyncio.ensure_future(second.poll(15_000))
        await cancelled_poll()
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        await until(lambda: len(second.assignment()) == 2 == len(first.assignment()), first, second)

    run(body)


def test_a_member_that_was_thrown_out_hears_that_its_partitions_are_lost_and_comes_back() -> None:
    async def body(world: World) -> None:
        listener = Listener()
        consumer = await world.consumer()
        consumer.subscribe(["orders"], listener=listener)
        await read(10, consumer)
        world.groups.restart()
        await until(lambda: ("lost", {P0}) in listener.told, consumer)
        await until(has(consumer, 1), consumer)
        assert [what for what, _ in listener.told] == ["revoked", "assigned", "lost", "assigned"]

    run(body, partitions=1)


def test_a_listener_of_two_methods_hears_of_lost_partitions_as_of_revoked_ones() -> None:
    # As those of kafka-python, which know no on_partitions_lost (KIP-429).
    async def body(world: World) -> None:
        class Two:
            def __init__(self) -> None:
                self.told: list[tuple[str, set[TopicPartition]]] = []

            def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
                self.told.append(("revoked", revoked))

            def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
                self.told.append(("assigned", assigned))

        listener: Any = Two()
        consumer = await world.consumer()
        consumer.subscribe(["orders"], listener=listener)
        await read(10, consumer)
        world.groups.restart()
        await until(lambda: len(listener.told) == 4, consumer)
        assert listener.told == [("revoked", set()), ("assigned", {P0}), ("revoked", {P0}), ("assigned", {P0})]

    run(body, partitions=1)


def test_who_does_not_poll_leaves_the_group_and_joins_again_with_the_next_poll() -> None:
    async def body(world: World) -> None:
        listener = Listener()
        slow = await world.consumer(max_poll_interval_ms=150)
        slow.subscribe(["orders"], listener=listener)
        await read(40, slow)
        other = await world.consumer("orders")
        await until(has(other, 4), other)
        with pytest.raises(CommitFailedError):
            await slow.commit()
        await until(lambda: len(slow.assignment()) == 2 == len(other.assignment()), slow, other)
        assert ("lost", {P0, P1, P2, P3}) in listener.told

    run(body)


def test_a_long_poll_is_a_sign_of_life() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", max_poll_interval_ms=100)
        await read(10, consumer)
        generation = consumer.group_metadata().generation_id
        await consumer.poll(400)
        assert consumer.group_metadata().generation_id == generation
        assert world.groups.calls["LeaveGroup"] == 0

    run(body, partitions=1)


def test_the_coordinator_moves_and_the_group_does_not_notice() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders")
        await read(10, consumer)
        before = consumer.group_metadata()
        for broker in (1, 2):
            world.groups.coordinator_id = broker
            fill(world.cluster, 0, 10)
            await read(10, consumer)
            await consumer.commit()
        assert world.committed(P0) == 30
        calls = world.groups.calls["Heartbeat"]
        await until(lambda: world.groups.calls["Heartbeat"] > calls + 2, consumer)
        assert consumer.group_metadata() == before

    run(body, partitions=1)


@pytest.mark.parametrize("call", ["FindCoordinator", "JoinGroup", "SyncGroup", "OffsetFetch"])
@pytest.mark.parametrize(
    "error", [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR]
)
def test_what_passes_is_waited_for(call: str, error: ErrorCode) -> None:
    async def body(world: World) -> None:
        world.groups.faults.append(GroupFault(call, error, times=3))
        consumer = await world.consumer("orders")
        assert len(await read(10, consumer)) == 10

    run(body, partitions=1)


def test_a_coordinator_that_hangs_is_left_for_the_one_that_follows_it() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders")
        await read(10, consumer)
        world.cluster.brokers[0].pause()
        world.cluster.move_leader("orders", 0, 1)
        world.groups.coordinator_id = 1
        fill(world.cluster, 0, 5)
        await read(5, consumer)
        await consumer.commit()
        assert world.committed(P0) == 15

    run(body, partitions=1)


def test_rule_16_a_commit_whose_outcome_is_not_known_is_tried_again() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders")
        await read(10, consumer)
        world.groups.faults.append(GroupFault("OffsetCommit", ErrorCode.REQUEST_TIMED_OUT, times=2, carried_out=True))
        await consumer.commit()
        assert [commit[3] for commit in world.groups.commits] == [10, 10, 10]
        world.groups.faults.append(GroupFault("OffsetCommit", ErrorCode.COORDINATOR_NOT_AVAILABLE, times=1000))
        with pytest.raises(KafkaTimeoutError, match="commit of group 'g'"):
            await consumer.commit(timeout_ms=100)

    run(body, partitions=1)


def test_commits_are_carried_out_in_the_order_in_which_they_were_asked_for() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders")
        await read(10, consumer)
        world.groups.faults.append(GroupFault("OffsetCommit", ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, times=3))
        told: list[tuple[Any, Any]] = []
        for offset in (1, 2):
            consumer.commit_async({P0: offset}, callback=lambda offsets, error: told.append((offsets, error)))
        await consumer.commit({P0: 3})
        assert [commit[3] for commit in world.groups.commits] == [1, 2, 3]
        await until(lambda: len(told) == 2, consumer)
        assert told == [({P0: OffsetAndMetadata(1)}, None), ({P0: OffsetAndMetadata(2)}, None)]

    run(body, partitions=1)


def test_the_callback_of_a_failed_commit_is_told_the_error() -> None:
    async def body(world: World) -> None:
        told: list[Any] = []
        consumer = await world.consumer(
            "orders", default_offset_commit_callback=lambda offsets, error: told.append(error)
        )
        await read(10, consumer)
        world.groups.faults.append(GroupFault("OffsetCommit", ErrorCode.OFFSET_METADATA_TOO_LARGE))
        task = consumer.commit_async()
        await until(lambda: bool(told), consumer)
        assert told[0].error_code is ErrorCode.OFFSET_METADATA_TOO_LARGE and task.exception() is told[0]

    run(body, partitions=1)


@pytest.mark.parametrize("error", [ErrorCode.ILLEGAL_GENERATION, ErrorCode.UNKNOWN_MEMBER_ID])
def test_rule_21_a_commit_of_an_older_generation_fails_and_the_consumer_joins_again(error: ErrorCode) -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", heartbeat_interval_ms=150, session_timeout_ms=300)
        await read(10, consumer)
        world.groups.faults.append(GroupFault("OffsetCommit", error))
        with pytest.raises(CommitFailedError):
            await consumer.commit()
        joins = world.groups.calls["JoinGroup"]
        await until(lambda: world.groups.calls["JoinGroup"] > joins, consumer)
        await until(has(consumer, 1), consumer)

    run(body, partitions=1)


def test_a_commit_during_a_rebalance_fails_and_may_be_tried_again_after_it() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", heartbeat_interval_ms=1000)
        await read(10, consumer)
        world.groups.faults.append(GroupFault("OffsetCommit", ErrorCode.REBALANCE_IN_PROGRESS))
        with pytest.raises(CommitFailedError) as caught:
            await consumer.commit({P0: 4})
        assert isinstance(caught.value, RebalanceInProgressError)
        joins = world.groups.calls["JoinGroup"]
        await until(lambda: world.groups.calls["JoinGroup"] > joins, consumer)
        await until(has(consumer, 1), consumer)
        await consumer.commit({P0: 4})
        assert world.committed(P0) == 4

    run(body, partitions=1)


def test_kip_345_a_static_member_comes_back_to_its_partitions_without_a_rebalance() -> None:
    async def body(world: World) -> None:
        one = await world.consumer("orders", group_instance_id="one")
        two = await world.consumer("orders", group_instance_id="two")
        await until(lambda: len(one.assignment()) == 2 == len(two.assignment()), one, two)
        had, generation = one.assignment(), two.group_metadata().generation_id
        await one.close()
        assert world.groups.calls["LeaveGroup"] == 0
        again = await world.consumer("orders", group_instance_id="one")
        await until(lambda: again.assignment() == had, again, two)
        assert two.group_metadata().generation_id == generation

    run(body)


def test_kip_345_who_is_replaced_under_its_instance_id_is_told() -> None:
    async def body(world: World) -> None:
        one = await world.consumer("orders", group_instance_id="one")
        await read(10, one)
        again = await world.consumer("orders", group_instance_id="one")
        await until(has(again, 1), again)
        with pytest.raises(FencedInstanceIdError):
            await until(lambda: False, one)
        with pytest.raises(FencedInstanceIdError):
            await one.poll()

    run(body, partitions=1)


def test_an_error_that_no_retry_mends_comes_out_of_poll_and_the_next_poll_tries_again() -> None:
    async def body(world: World) -> None:
        world.groups.faults.append(GroupFault("JoinGroup", ErrorCode.GROUP_MAX_SIZE_REACHED))
        consumer = await world.consumer("orders")
        with pytest.raises(KafkaError) as caught:
            await until(has(consumer, 1), consumer)
        assert caught.value.error_code is ErrorCode.GROUP_MAX_SIZE_REACHED
        await until(has(consumer, 1), consumer)

    run(body, partitions=1)


def test_an_assignor_of_ones_own() -> None:
    class Broken(Assignor):
        name = "broken"

        def assign(self, partition_counts: Any, members: Any) -> dict[str, list[TopicPartition]]:
            if not broken:
                return {members[0].member_id: [P0]}
            raise ZeroDivisionError("oops")

    broken = True

    async def body(world: World) -> None:
        nonlocal broken
        consumer = await world.consumer("orders", partition_assignment_strategy=[Broken])
        with pytest.raises(KafkaError, match="'broken' failed: ZeroDivisionError"):
            await until(has(consumer, 1), consumer)
        broken = False
        await until(has(consumer, 1), consumer)

    run(body)


def test_a_subscription_that_an_assignor_cannot_make_is_told_by_poll() -> None:
    class Broken(Assignor):
        name = "broken"

        def user_data(self, topics: Any) -> bytes | None:
            raise ZeroDivisionError("oops")

        def assign(self, partition_counts: Any, members: Any) -> dict[str, list[TopicPartition]]:
            return {}

    async def body(world: World) -> None:
        consumer = await world.consumer("orders", partition_assignment_strategy=[Broken])
        with pytest.raises(KafkaError, match="'broken' failed: ZeroDivisionError"):
            await until(has(consumer, 1), consumer)

    run(body)


def test_topics_that_come_and_grow_are_noticed_and_patterns_followed() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer(metadata_max_age_ms=50)
        consumer.subscribe(pattern="or.*|later", listener=None)
        other = await world.consumer("orders", "unmade", metadata_max_age_ms=50)
        await until(lambda: len(consumer.assignment()) + len(other.assignment()) == 1, consumer, other)
        world.cluster.create_topic("later", 2)
        world.cluster.create_topic("other", 2)
        await until(lambda: len(consumer.assignment()) + len(other.assignment()) == 3, consumer, other)
        assert consumer.subscription() == {"orders", "later"}
        world.cluster.create_topic("orders", 2)
        world.cluster.create_topic("unmade", 1)
        await until(lambda: len(consumer.assignment()) + len(other.assignment()) == 5, consumer, other)
        assert TopicPartition("unmade", 0) in other.assignment()

    run(body, partitions=1)


def test_a_topic_that_grows_while_the_leader_syncs_is_not_missed() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", metadata_max_age_ms=10)
        world.groups.faults.append(GroupFault("SyncGroup", ErrorCode.NONE, hold_s=0.2))
        await until(lambda: world.groups.calls["SyncGroup"] == 1, consumer)
        world.cluster.create_topic("orders", 3)
        await until(has(consumer, 3), consumer)

    run(body, partitions=1)


def test_a_new_subscription_takes_effect_in_the_next_generation() -> None:
    async def body(world: World) -> None:
        world.cluster.create_topic("bills", 2)
        consumer = await world.consumer("orders")
        await until(has(consumer, 4), consumer)
        consumer.subscribe(["bills"])
        await until(lambda: consumer.assignment() == {TopicPartition("bills", 0), TopicPartition("bills", 1)}, consumer)
        assert consumer.subscription() == {"bills"}

    run(body)


@pytest.mark.parametrize("reset", ["earliest", "latest", "none"])
def test_auto_offset_reset_counts_where_nothing_is_committed(reset: str) -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders", auto_offset_reset=reset)
        if reset == "none":
            with pytest.raises(NoOffsetForPartitionError, match="orders-0"):
                await read(1, consumer)
            return
        if reset == "latest":
            await until(has(consumer, 1), consumer)
            assert await consumer.position(P0) == 10
            fill(world.cluster, 0, 1)
        assert (await read(1, consumer))[0].offset == (10 if reset == "latest" else 0)

    run(body, partitions=1)


def test_what_has_no_committed_offset_is_told_by_each_poll_until_it_is_sought() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer(auto_offset_reset="none")
        consumer.assign([P0])
        await consumer.commit({P0: 0})
        consumer.assign([P0, P1])
        assert consumer._core is not None
        consumer.seek(P0, 0)
        p0, p1 = (consumer._core.positions[partition] for partition in (P0, P1))
        await until(lambda: p0.has_data and p1.has_data)
        assert [len(records) for records in (await consumer.poll()).values()] == [10], "what is good comes first"
        for _ in range(2):
            with pytest.raises(NoOffsetForPartitionError, match="orders-1"):
                await consumer.poll(100)
        consumer.seek(P1, 4)
        assert [record.offset for record in await read(6, consumer)] == [4, 5, 6, 7, 8, 9]

    run(body)


def test_partitions_assigned_by_hand_begin_at_the_committed_offset_and_commit_from_outside() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer(enable_auto_commit=False)
        consumer.assign([P0])
        await read(10, consumer)
        await consumer.commit({P0: 6})
        with pytest.raises(IllegalStateError, match="by hand"):
            consumer.subscribe(["orders"])
        again = await world.consumer()
        again.assign([P0, P1])
        assert await again.position(P0) == 6 and await again.position(P1) == 0
        assert consumer.group_metadata().generation_id is None
        assert world.groups.calls["JoinGroup"] == 0
        await again.unsubscribe()
        again.subscribe(["orders"])
        await until(has(again, 4), again)
        with pytest.raises(IllegalStateError, match="unsubscribe"):
            again.assign([P0])

    run(body)


def test_wakeup_ends_the_poll_under_way_or_the_next_one() -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders")
        await read(10, consumer)
        waiting = asyncio.ensure_future(consumer.poll(10_000))
        await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(None, consumer.wakeup)
        with pytest.raises(WakeupError):
            await waiting
        consumer.wakeup()
        with pytest.raises(WakeupError):
            await consumer.poll()
        assert await consumer.poll() == {}

    run(body, partitions=1)


@pytest.mark.parametrize(
    "offsets", [[], {"orders": 1}, {P0: -1}, {P0: "1"}, {P0: None}, {("orders", -1): 1}, {P0: (1, 2)}, {P0: True}]
)
def test_wrong_offsets_are_named(offsets: Any) -> None:
    async def body(world: World) -> None:
        consumer = await world.consumer("orders")
        with pytest.raises(KafkaError, match="commit"):
            await consumer.commit(offsets)

    run(body, partitions=1)
