"""A group's member by itself: when it wakes up."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
from harness.virtual_loop import VirtualClock, VirtualLoop, run_virtual
from klamm.client.cluster_client import ClusterClient
from klamm.client.config import consumer_config
from klamm.client.group_coordinator import GroupCoordinatorClient
from klamm.client.group_member import GroupMember
from klamm.proto.errors import NodeNotReadyError


class Member(GroupMember):
    """Counts how often its timer wakes it."""

    wakes = 0

    def _on_timer(self) -> None:
        self.wakes += 1
        super()._on_timer()


@pytest.mark.parametrize("error", [NodeNotReadyError("no broker answers"), RuntimeError("a bug")])
def test_while_the_cluster_is_away_it_does_not_wake_up_for_the_age_of_its_metadata(error: Exception) -> None:
    """It did so a thousand times a second, for as long as a refresh was under way or rested. After what nobody expects
    it rests and tries again as well.
    """

    async def scenario(loop: VirtualLoop) -> tuple[int, int]:
        refreshes = 0

        async def refresh() -> None:
            nonlocal refreshes
            refreshes += 1
            await asyncio.sleep(1.5)
            raise error

        cluster = SimpleNamespace(
            clock=VirtualClock(loop), random=Random(1), on_change=[], refreshed_at_ms=-1, topics=set(), refresh=refresh,
            pause_ms=lambda wanted_ms: wanted_ms,
        )  # fmt: skip
        config = consumer_config({"bootstrap_servers": "127.0.0.1:1", "group_id": "g"})
        coordinator = cast("GroupCoordinatorClient", SimpleNamespace(note=lambda _: None))
        member = Member(config, cast("ClusterClient", cluster), coordinator, lambda: (), lambda: None)
        member.subscribe(frozenset({"orders"}), None)
        await asyncio.sleep(10)
        await member.close()
        return refreshes, member.wakes

    refreshes, wakes = run_virtual(scenario)
    assert refreshes >= 5  # it goes on trying
    assert wakes <= 2 * refreshes
