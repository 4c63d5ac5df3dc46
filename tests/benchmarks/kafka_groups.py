"""Groups over Kafka's protocol: a large one from nothing to assigned, and ten thousand members that all beat.

The members are raw clients in one process: a library's would be the bottleneck.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from group_heartbeats import INTERVAL_S, measure
from harness.kafka_client import KafkaClient, part
from klamm.deploy.local import LocalCluster
from klamm.proto.consumer_protocol import ConsumerProtocolSubscription
from klamm.proto.errors import ErrorCode
from measurement import Measurement

MEMBERS = 100
JOIN_VERSION, SYNC_VERSION, HEARTBEAT_VERSION = 5, 3, 3
REJOIN = {ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.ILLEGAL_GENERATION}


@dataclass
class Group:
    """What its members know of one another; the benchmark ends when all are assigned in one generation."""

    group_id: str
    assigned: dict[str, int] = field(default_factory=dict)  # member id to generation
    whole: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, member_id: str, generation: int) -> None:
        self.assigned[member_id] = generation
        if len(self.assigned) == MEMBERS and len(set(self.assigned.values())) == 1:
            self.whole.set()


async def member(client: KafkaClient, group: Group) -> None:
    """Joins, syncs and beats every three seconds as librdkafka does, and joins again when it is told to."""
    subscription = ConsumerProtocolSubscription(topics=("t",)).encode()
    protocol = part("join_group", JOIN_VERSION, "JoinGroupRequestProtocol", name="range", metadata=subscription)
    member_id = ""
    while not group.whole.is_set():
        joined = await client.call(
            "join_group",
            JOIN_VERSION,
            group_id=group.group_id,
            session_timeout=timedelta(seconds=45),
            rebalance_timeout=timedelta(seconds=60),
            member_id=member_id,
            group_instance_id=None,
            protocol_type="consumer",
            protocols=(protocol,),
        )
        member_id = joined.member_id
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            continue
        assert joined.error_code == ErrorCode.NONE, joined
        if await sync(client, group, joined):
            await beat(client, group, joined)


async def sync(client: KafkaClient, group: Group, joined: object) -> bool:
    """True if it is assigned."""
    assignments = tuple(
        part("sync_group", SYNC_VERSION, "SyncGroupRequestAssignment", member_id=each.member_id, assignment=b"a")
        for each in joined.members  # type: ignore[attr-defined]
    )
    member_id, generation_id = joined.member_id, joined.generation_id  # type: ignore[attr-defined]
    synced = await client.call(
        "sync_group",
        SYNC_VERSION,
        group_id=group.group_id,
        generation_id=generation_id,
        member_id=member_id,
        group_instance_id=None,
        assignments=assignments,
    )
    if synced.error_code in REJOIN:
        return False
    assert synced.error_code == ErrorCode.NONE, synced
    group.note(member_id, generation_id)
    return True


async def beat(client: KafkaClient, group: Group, joined: object) -> None:
    """Until it is to join again, or the group is whole."""
    member_id, generation_id = joined.member_id, joined.generation_id  # type: ignore[attr-defined]
    while True:
        try:
            await asyncio.wait_for(group.whole.wait(), INTERVAL_S)
        except TimeoutError:
            pass
        if group.whole.is_set():
            return
        answer = await client.call(
            "heartbeat",
            HEARTBEAT_VERSION,
            group_id=group.group_id,
            generation_id=generation_id,
            member_id=member_id,
            group_instance_id=None,
        )
        if answer.error_code in REJOIN:
            return
        assert answer.error_code == ErrorCode.NONE, answer


async def _join_all(servers: str, runs: int) -> list[float]:
    host, _, port = servers.partition(":")
    samples = []
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(KafkaClient.connect(host, int(port))) for _ in range(MEMBERS)]
        for run in range(runs + 1):
            group = Group(f"large-{run}")
            await _coordinator(clients[0], group.group_id)
            began = time.monotonic()
            await asyncio.gather(*(member(client, group) for client in clients))
            samples.append(time.monotonic() - began)
    return samples[1:]  # the first made the topic and imported what a broker imports at first use


async def _coordinator(client: KafkaClient, group_id: str) -> None:
    """Until there is one: the first to ask lets __consumer_offsets come to be."""
    for _ in range(100):
        if not (await client.call("find_coordinator", 2, key=group_id, key_type=0)).error_code:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"no coordinator for {group_id}")


def large_group(runs: int = 7) -> list[Measurement]:
    """All of a group's members join at once; until each is assigned in one generation."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        samples = asyncio.run(_join_all(cluster.kafka_bootstrap_servers, runs))
    what = f"a {MEMBERS}-member group: all join to all assigned"
    return [Measurement(what, "s", "2 s", tuple(samples), lambda m: m.median <= 2)]


def many_groups(groups: int = 1000, size: int = 10, seconds: float = 30.0) -> list[Measurement]:
    """No heartbeat may be answered later than its interval after it was due."""
    with LocalCluster(brokers=1, controllers=1) as cluster:
        late_ms = asyncio.run(measure(cluster, groups, size, seconds))
    what = f"{groups:,} groups, {groups * size:,} members on one broker: a heartbeat due to its answer"
    target = f"worst {INTERVAL_S:g} s"
    return [Measurement(what, "ms", target, tuple(late_ms), lambda m: m.worst <= 1000 * INTERVAL_S)]
