"""A quorum with nothing to do: heartbeats, and rest in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.raft_network import RaftNetwork
from harness.raft_quorum import NO_HEARTBEATS, Quorum, run_quorum
from klamm.controller.raft_contract import RaftConfig
from klamm.controller.raft_node import RaftNode

HEARTBEATS = 100
REST_SECONDS = 0.3


@pytest.mark.parametrize("seed", range(3))
def test_an_idle_quorum_sends_heartbeats_and_nothing_else(seed: int) -> None:
    config = RaftConfig()
    network = RaftNetwork(seed, config=config)
    for voter in network.voters:
        network.start(voter)
    network.settle()
    network.run(2 * config.heartbeat_interval_ms)
    before = network.messages
    network.run(HEARTBEATS * config.heartbeat_interval_ms)
    # To each of two followers, and its answer. A timer fires a millisecond late.
    assert 4 * (HEARTBEATS - 2) <= network.messages - before <= 4 * (HEARTBEATS + 1)


def test_between_heartbeats_an_idle_node_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    step = RaftNode._step

    def counted(node: RaftNode) -> None:
        nonlocal steps
        steps += 1
        step(node)

    monkeypatch.setattr(RaftNode, "_step", counted)

    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        await quorum.connected()
        await leader.propose(b"x", timeout_ms=20_000)
        await quorum.until(lambda: all(node.last_applied == leader.last_index for node in quorum.nodes.values()), "lag")
        async with asyncio.timeout(20):
            seen = -1
            while steps != seen:
                seen = steps
                await asyncio.sleep(REST_SECONDS)

    run_quorum(tmp_path, test, config=NO_HEARTBEATS)
