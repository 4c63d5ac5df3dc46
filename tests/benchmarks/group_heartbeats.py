"""Groups by the thousand: does one broker answer every heartbeat in time while all of them beat?

1,000 classic groups of 10 members each join and are assigned, then each member sends a heartbeat every 3 seconds for a
while, over connections that members share. Printed: how long all joins took, and for the heartbeats how many were
answered, how late (from when each was due to its answer), and the broker's processor time and memory.

    python tests/benchmarks/group_heartbeats.py [groups] [members per group] [seconds]
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.kafka_client import KEYS, KafkaClient, encode, encode_header, part, request
from klamm.deploy.local import LocalCluster
from klamm.proto.consumer_protocol import ConsumerProtocolSubscription

INTERVAL_S = 3.0
CONNECTIONS = 100
GROUPS_AT_ONCE = 20
SESSION = timedelta(minutes=10)  # nobody beats before all have joined
_ANSWER = struct.Struct(">iiih")  # size, correlation id, throttle time, error


@dataclass
class Member:
    group_id: str
    member_id: str
    generation_id: int


class Line:
    """A connection whose requests are answered in order; callers share it one after the other."""

    def __init__(self, client: KafkaClient) -> None:
        self.client = client
        self.lock = asyncio.Lock()

    async def call(self, name: str, version: int, **fields: object) -> object:
        async with self.lock:
            return await self.client.call(name, version, **fields)


async def join_group(group_id: str, lines: list[Line]) -> list[Member]:
    """All members join side by side, each on a connection of its own; the leader assigns nothing to anybody."""
    subscription = ConsumerProtocolSubscription(topics=("t",)).encode()

    async def join(line: Line) -> object:
        joined = None
        for _ in range(20):
            joined = await line.client.call(
                "join_group",
                3,
                group_id=group_id,
                session_timeout=SESSION,
                rebalance_timeout=SESSION,
                member_id="" if joined is None else joined.member_id,
                protocol_type="consumer",
                protocols=(part("join_group", 3, "JoinGroupRequestProtocol", name="range", metadata=subscription),),
            )
            if not joined.error_code:
                break
            await asyncio.sleep(0.1)
        return joined

    async def settle(line: Line, joined: object) -> object:
        while True:
            assignments = tuple(
                part("sync_group", 2, "SyncGroupRequestAssignment", member_id=each.member_id, assignment=b"a")
                for each in joined.members
            )
            synced = await line.client.call(
                "sync_group",
                2,
                group_id=group_id,
                generation_id=joined.generation_id,
                member_id=joined.member_id,
                assignments=assignments,
            )
            if not synced.error_code:
                return joined
            joined = await line.client.call(
                "join_group",
                3,
                group_id=group_id,
                session_timeout=SESSION,
                rebalance_timeout=SESSION,
                member_id=joined.member_id,
                protocol_type="consumer",
                protocols=(part("join_group", 3, "JoinGroupRequestProtocol", name="range", metadata=subscription),),
            )

    async def member(line: Line) -> Member:
        joined = await settle(line, await join(line))
        return Member(group_id, joined.member_id, joined.generation_id)

    return list(await asyncio.gather(*(member(line) for line in lines)))


class Beats(asyncio.Protocol):
    """A connection for heartbeats alone: whole frames made beforehand go out when due, answers come in order."""

    def __init__(self) -> None:
        self.due_s: deque[float] = deque()
        self.lateness_ms: list[float] = []
        self.refused = 0
        self._buffer = b""
        self._idle: asyncio.Future[None] | None = None
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        now_s, position = time.monotonic(), 0
        while len(self._buffer) - position >= _ANSWER.size:
            _, _, _, error = _ANSWER.unpack_from(self._buffer, position)
            self.refused += bool(error)
            self.lateness_ms.append((now_s - self.due_s.popleft()) * 1000)
            position += _ANSWER.size
        self._buffer = self._buffer[position:]
        if self._idle is not None and not self.due_s:
            self._idle.set_result(None)
            self._idle = None

    async def all_answered(self) -> None:
        if self.due_s:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle


def frame_of(member: Member) -> bytes:
    body = encode(
        request(
            "heartbeat", 2, group_id=member.group_id, generation_id=member.generation_id, member_id=member.member_id
        )
    )
    frame = encode_header(KEYS["heartbeat"], 2, 0, "bench", flexible=False) + body
    return struct.pack(">i", len(frame)) + frame


async def beat(beats: list[Beats], members: list[Member], seconds: float) -> None:
    """Each member's heartbeats, one every 3 s, the members spread evenly over the time."""
    frames = [frame_of(member) for member in members]
    began_s = time.monotonic()
    sent, total = 0, int(len(frames) * seconds / INTERVAL_S)
    while sent < total:
        now_s = time.monotonic()
        while sent < total and (due_s := began_s + sent * INTERVAL_S / len(frames)) <= now_s:
            line = beats[sent % len(frames) % len(beats)]
            line.due_s.append(due_s)
            assert line.transport is not None
            line.transport.write(frames[sent % len(frames)])
            sent += 1
        await asyncio.sleep(0.005)
    for line in beats:
        await line.all_answered()


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def measure(cluster: LocalCluster, groups: int, size: int, seconds: float) -> list[float]:
    """How late each heartbeat was answered, in ms, from when it was due. None may be refused."""
    host, port = cluster.kafka_bootstrap_servers.split(":")
    async with AsyncExitStack() as stack:
        lines = [
            Line(await stack.enter_async_context(KafkaClient.connect(host, int(port))))
            for _ in range(max(CONNECTIONS, size))
        ]
        return await measure_over(lines, cluster, groups, size, seconds)


async def measure_over(lines: list[Line], cluster: LocalCluster, groups: int, size: int, seconds: float) -> list[float]:
    pid = cluster.pid_of(1)
    assert pid is not None
    found = await lines[0].call("find_coordinator", 2, key="g", key_type=0)
    while found.error_code:
        await asyncio.sleep(0.1)
        found = await lines[0].call("find_coordinator", 2, key="g", key_type=0)
    await asyncio.sleep(1)
    print(f"before: {resident_mib(pid):.0f} MiB")
    began_s, cpu_s = time.monotonic(), processor_seconds(pid)
    members: list[Member] = []
    at_once = min(GROUPS_AT_ONCE, len(lines) // size)
    for first in range(0, groups, at_once):
        batch = range(first, min(first + at_once, groups))
        made = await asyncio.gather(
            *(
                join_group(f"group-{number}", lines[slot * size : (slot + 1) * size])
                for slot, number in enumerate(batch)
            )
        )
        members.extend(member for group in made for member in group)
    took_s = time.monotonic() - began_s
    cpu_s = processor_seconds(pid) - cpu_s
    print(f"{len(members)} members in {groups} groups joined in {took_s:.1f} s, broker {cpu_s:.1f} s of processor time")
    host, port = cluster.kafka_bootstrap_servers.split(":")
    loop = asyncio.get_running_loop()
    beats = [(await loop.create_connection(Beats, host, int(port)))[1] for _ in range(CONNECTIONS)]
    began_s, cpu_s = time.monotonic(), processor_seconds(pid)
    await beat(beats, members, seconds)
    took_s = time.monotonic() - began_s
    ordered = sorted(late for line in beats for late in line.lateness_ms)
    print(
        f"{len(ordered)} heartbeats in {took_s:.1f} s, {sum(line.refused for line in beats)} refused: "
        f"median {median(ordered):.1f} ms, p99 {ordered[int(len(ordered) * 0.99)]:.0f} ms, worst {ordered[-1]:.0f} ms; "
        f"broker {(processor_seconds(pid) - cpu_s) / took_s:.0%} of a core, {resident_mib(pid):.0f} MiB"
    )
    for line in beats:
        assert line.transport is not None
        line.transport.close()
    assert not any(line.refused for line in beats)
    return ordered


def main() -> None:
    groups, size, seconds = (int(argument) for argument in (*sys.argv[1:], *("1000", "10", "15")[len(sys.argv) - 1 :]))
    with LocalCluster(brokers=1, controllers=1) as cluster:
        asyncio.run(measure(cluster, groups, size, seconds))


if __name__ == "__main__":
    main()
