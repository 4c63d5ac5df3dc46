"""Following the metadata log: in order, each record once, across breaks, snapshots and changes of controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from harness.fake_controllers import CLUSTER_ID, FakeQuorum, until
from klamm.broker.controller_client import ControllerClient
from klamm.broker.metadata_follower import MetadataFollower
from klamm.broker.system_clock import SystemClock
from klamm.cluster.delta import MetadataDelta
from klamm.cluster.image import MetadataImage
from klamm.cluster.records import cluster_record, config_record
from klamm.proto.errors import InconsistentClusterIdError
from klamm.proto.identifiers import BrokerId
from klamm.proto.metadata_pb2 import MetadataBatch, MetadataRecord, PartitionRecord, TopicRecord

TOPIC_ID = b"t" * 16


def setting(value: int) -> MetadataRecord:
    return config_record(4, "", "num.partitions", str(value))


class Steps:
    """What the broker was told to do, in order; checks that steps are one at a time and without a gap."""

    def __init__(self) -> None:
        self.images: list[tuple[MetadataImage, MetadataImage]] = []
        self.fatal: list[Exception] = []
        self.hold: asyncio.Event | None = None
        self.act: Callable[[], None] = lambda: None
        self._busy = False

    async def on_image(self, old: MetadataImage, new: MetadataImage) -> None:
        assert not self._busy
        self._busy = True
        assert old is (self.images[-1][1] if self.images else old)
        assert new.end_offset > old.end_offset
        self.images.append((old, new))
        self.act()
        if self.hold is not None:
            await self.hold.wait()
        self._busy = False


@asynccontextmanager
async def following(
    quorum: FakeQuorum, steps: Steps, cluster_id: str | None = None, act_from: int = 0
) -> AsyncIterator[MetadataFollower]:
    client = ControllerClient(quorum.addresses, SystemClock())
    follower = MetadataFollower(
        client, steps.on_image, broker_id=BrokerId(1), on_fatal=steps.fatal.append, cluster_id=cluster_id
    )
    await follower.start(act_from)
    yield follower
    await follower.stop()
    await client.close()


def test_records_are_replayed_as_they_are_committed() -> None:
    async def main() -> None:
        steps, seen = Steps(), []
        async with FakeQuorum() as quorum, following(quorum, steps) as follower:
            follower.add_listener(lambda image: seen.append(image.end_offset))
            assert await follower.wait_for(1, 5_000)
            assert follower.image.cluster_id == CLUSTER_ID
            end = quorum.commit(setting(3))
            assert await follower.wait_for(end, 5_000)
            assert follower.image.cluster_config() == {"num.partitions": "3"}
            assert follower.image == quorum.image()
            assert seen == [1, 2]
            assert not await follower.wait_for(end + 1, 20)

    asyncio.run(main())


def test_a_command_in_pieces_is_one_step() -> None:
    topic = MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID))
    partitions = [
        MetadataRecord(partition=PartitionRecord(topic_id=TOPIC_ID, partition=number, replicas=[1], isr=[1], leader=1))
        for number in range(3)
    ]

    def in_pieces(next_offset: int) -> Sequence[MetadataBatch]:
        records = [cluster_record(CLUSTER_ID), topic, *partitions]
        pieces = [
            MetadataBatch(base_offset=0, end_offset=1, records=records[:1]),
            MetadataBatch(base_offset=1, end_offset=3, records=records[1:3], mid_command=True),
            MetadataBatch(base_offset=3, end_offset=4, records=records[3:4], mid_command=True),
            MetadataBatch(base_offset=4, end_offset=5, records=records[4:]),
        ]
        return [piece for piece in pieces if piece.end_offset > next_offset]

    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum:
            quorum.records += [topic, *partitions]
            quorum.batches = in_pieces
            async with following(quorum, steps) as follower:
                assert await follower.wait_for(5, 5_000)
                assert {len(image.topics["t"].partitions) for _, image in steps.images if "t" in image.topics} == {3}
                assert not steps.fatal

    asyncio.run(main())


def test_it_moves_to_the_next_controller_and_resumes_at_its_offset() -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum(3) as quorum, following(quorum, steps) as follower:
            assert await follower.wait_for(quorum.commit(setting(1)), 5_000)
            await quorum.nodes[0].kill()
            quorum.elect(1)
            assert await follower.wait_for(quorum.commit(setting(2), setting(3)), 5_000)
            assert quorum.follow_requests[-1].next_offset >= 2
            assert quorum.follow_requests[-1].cluster_id == CLUSTER_ID
            assert follower.image == quorum.image()

    asyncio.run(main())


def test_records_sent_twice_are_replayed_once() -> None:
    topic = MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID))
    partition = MetadataRecord(partition=PartitionRecord(topic_id=TOPIC_ID, replicas=[1], isr=[1], leader=1))

    def overlapping(next_offset: int) -> Sequence[MetadataBatch]:
        records = [cluster_record(CLUSTER_ID), topic, partition]
        return [
            MetadataBatch(base_offset=0, end_offset=2, records=records[:2]),
            MetadataBatch(base_offset=0, end_offset=2, records=records[:2]),
            MetadataBatch(base_offset=1, end_offset=3, records=records[1:]),
            MetadataBatch(base_offset=3, end_offset=3),
        ]

    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum:
            quorum.records += [topic, partition]
            quorum.batches = overlapping  # a topic replayed twice would break an invariant
            async with following(quorum, steps) as follower:
                assert await follower.wait_for(3, 5_000)
                assert len(follower.image.topics["t"].partitions) == 1
                assert not steps.fatal

    asyncio.run(main())


def test_rule_20_a_broker_does_not_live_through_its_own_past_again() -> None:
    # The history comes in pieces, and in one of them the partition was another broker's: to act on that would be to
    # delete the log, or to lead in an epoch that is long over.
    def moved(epoch: int, *replicas: int) -> MetadataRecord:
        return MetadataRecord(
            partition=PartitionRecord(
                topic_id=TOPIC_ID,
                replicas=replicas,
                isr=replicas,
                leader=replicas[0],
                leader_epoch=epoch,
                partition_epoch=epoch,
            )
        )

    records = [cluster_record(CLUSTER_ID), MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID))]
    records += [moved(0, 1), moved(1, 2), moved(2, 1)]

    def in_pieces(next_offset: int) -> Sequence[MetadataBatch]:
        return [MetadataBatch(base_offset=n, end_offset=n + 1, records=[records[n]]) for n in range(len(records))]

    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum:
            quorum.records += records[1:]
            quorum.batches = in_pieces
            async with following(quorum, steps, act_from=len(records)) as follower:
                assert await follower.wait_for(len(records), 5_000)
                [(old, new)] = steps.images
                delta = MetadataDelta.between(old, new).for_broker(BrokerId(1))
                assert [local.partition.leader_epoch for local in delta.to_lead] == [2]
                assert not delta.to_remove_reassigned

    asyncio.run(main())


def test_a_gap_is_never_jumped() -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum:
            quorum.batches = lambda _: [MetadataBatch(base_offset=5, end_offset=6, records=[setting(1)])]
            async with following(quorum, steps) as follower:
                await until(lambda: len(quorum.follow_requests) >= 2)
                assert follower.image.end_offset == 0
                quorum.batches = None
                assert await follower.wait_for(1, 5_000)

    asyncio.run(main())


def test_a_snapshot_replaces_the_image_and_makes_one_step() -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum(2) as quorum, following(quorum, steps) as follower:
            assert await follower.wait_for(quorum.commit(setting(1), config_record(4, "", "log.roll.ms", "5")), 5_000)
            quorum.active_id = None
            await quorum.nodes[0].kill()
            quorum.records += [config_record(4, "", "log.roll.ms", None)]
            quorum.records += [MetadataRecord(topic=TopicRecord(name="t", topic_id=TOPIC_ID))]
            quorum.snapshot_below = len(quorum.records)
            quorum.elect(1)
            assert await follower.wait_for(len(quorum.records), 5_000)
            old, new = steps.images[-1]
            assert old.end_offset == 3
            assert [topic.name for topic in MetadataDelta.between(old, new).topics_created] == ["t"]
            assert follower.image == quorum.image()

    asyncio.run(main())


def test_an_older_snapshot_does_not_take_it_back() -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum(2) as quorum, following(quorum, steps) as follower:
            end = quorum.commit(setting(1))
            assert await follower.wait_for(end, 5_000)
            stale = MetadataBatch(is_snapshot=True, end_offset=1, last_of_snapshot=True)
            quorum.batches = lambda _: [stale]
            quorum.elect(1)
            await quorum.nodes[0].kill()
            assert await follower.wait_for(quorum.commit(setting(2)), 5_000)
            assert follower.image.cluster_config() == {"num.partitions": "2"}

    asyncio.run(main())


def test_what_is_committed_while_the_broker_is_busy_comes_as_one_step() -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum, following(quorum, steps) as follower:
            assert await follower.wait_for(1, 5_000)
            steps.hold = asyncio.Event()
            quorum.commit(setting(1))
            await until(lambda: len(steps.images) == 2)
            for value in range(20):
                end = quorum.commit(setting(value))
                await asyncio.sleep(0.001)
            assert follower.image.end_offset == 1  # not acted on yet
            steps.hold.set()
            assert await follower.wait_for(end, 5_000)
            assert 3 <= len(steps.images) <= 6

    asyncio.run(main())


def test_controllers_of_another_cluster_are_fatal() -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum, following(quorum, steps, cluster_id="x" * 22):
            await until(lambda: steps.fatal)
            assert isinstance(steps.fatal[0], InconsistentClusterIdError)
            assert not steps.images

    asyncio.run(main())


def test_a_broker_that_fails_to_act_does_not_go_on() -> None:
    def fail() -> None:
        raise OSError("disk")

    async def main() -> None:
        steps = Steps()
        steps.act = fail
        async with FakeQuorum() as quorum, following(quorum, steps) as follower:
            await until(lambda: steps.fatal)
            assert isinstance(steps.fatal[0], OSError)
            assert follower.image.end_offset == 0
            assert not await follower.wait_for(1, 10)

    asyncio.run(main())


@pytest.mark.parametrize("reason", ["records of another log"])
def test_records_that_contradict_the_image_are_fatal(reason: str) -> None:
    async def main() -> None:
        steps = Steps()
        async with FakeQuorum() as quorum, following(quorum, steps):
            quorum.commit(MetadataRecord(partition=PartitionRecord(topic_id=TOPIC_ID)))
            await until(lambda: steps.fatal)
            assert "unknown topic" in str(steps.fatal[0]), reason

    asyncio.run(main())
