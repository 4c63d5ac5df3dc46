"""What a leader tells only after those who might have replaced it have said that they still follow it."""

from __future__ import annotations

import asyncio

from harness.simulated_cluster import SimulatedCluster
from klamm.broker.leader_replica import LeaderReplica
from klamm.broker.leadership import still_leads
from klamm.proto.errors import ErrorCode
from unit.broker.test_replica_manager import cut_off, fetch, led, manager, partition, produce, simulated, topic


def leader_of(cluster: SimulatedCluster, number: int) -> LeaderReplica:
    leader = partition(cluster, number).leader
    assert leader is not None
    return leader


async def deposed(cluster: SimulatedCluster) -> None:
    """Broker 1 led; it hears neither the controllers nor the others, but clients reach it. Broker 2 leads, and has
    committed past broker 1's log end."""
    await topic(cluster)
    await produce(cluster, 1, b"a")
    cut_off(cluster, 1, 2, 3)
    cut_off(cluster, 1, 0)
    await cluster.until(lambda: led(cluster, 2) or led(cluster, 3))
    assert led(cluster, 1), "it does not know"


def new_leader(cluster: SimulatedCluster) -> int:
    return 2 if led(cluster, 2) else 3


def test_rule_15_a_deposed_leader_does_not_have_a_reader_begin_anew() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await deposed(cluster)
        await produce(cluster, new_leader(cluster), b"b", b"c")
        # However short the time since the controllers said that it is alive.
        assert manager(cluster, 1).in_touch()
        assert (await fetch(cluster, new_leader(cluster), 3)).error is ErrorCode.NONE
        assert (await fetch(cluster, 1, 3)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await fetch(cluster, 1, 0)).records, "what it has was committed"

    simulated(test)


def test_a_leader_that_is_followed_says_that_an_offset_is_out_of_range() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        assert (await fetch(cluster, 1, 5)).error is ErrorCode.OFFSET_OUT_OF_RANGE
        assert (await fetch(cluster, 1, 1)).error is ErrorCode.NONE
        # While it waits for that, records may come.
        asked = asyncio.create_task(fetch(cluster, 1, 2))
        await asyncio.sleep(0)
        assert not asked.done()
        await produce(cluster, 1, b"b", b"c")
        assert (await asked).error is ErrorCode.NONE

    simulated(test)


def test_a_follower_that_hangs_is_waited_for_until_it_is_out_of_the_isr() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        cut_off(cluster, 3, 1, 2)
        # Nothing is appended meanwhile, and the controllers think that it is well.
        assert await still_leads(leader_of(cluster, 1), lambda: False)
        assert 3 not in leader_of(cluster, 1).state.isr.committed

    simulated(test)


def test_if_nobody_answers_it_is_not_known() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await deposed(cluster)
        leader = leader_of(cluster, 1)
        began = cluster.loop.time()
        assert not await still_leads(leader, lambda: True)
        assert cluster.loop.time() > began
        assert not leader._confirmations.waiting, "nobody waits any more"

    simulated(test)


def test_who_is_alone_in_sync_needs_nobody() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, replicas=(1,))
        assert (await fetch(cluster, 1, 5)).error is ErrorCode.OFFSET_OUT_OF_RANGE
        assert await still_leads(leader_of(cluster, 1), lambda: False)

    simulated(test)


def test_who_is_alone_in_sync_and_out_of_touch_sends_nobody_back() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, replicas=(1,))
        await produce(cluster, 1, b"a")
        cluster.brokers[1].in_touch = False  # type: ignore[index]
        assert (await fetch(cluster, 1, 5)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER, "an election may be unclean"
        assert (await fetch(cluster, 1, 0)).records

    simulated(test)


def test_a_leader_that_cannot_serve_its_followers_does_not_hold_their_silence_against_them() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        cut_off(cluster, 1, 2, 3)
        leader = leader_of(cluster, 1)
        leader.confirm(lambda _: None)
        assert all(follower.asked for follower in leader.state.followers.values())
        leader.resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        assert not any(follower.asked for follower in leader.state.followers.values())

    simulated(test)


def test_under_min_isr_all_replicas_confirm_it_or_the_controllers_were_just_heard() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster, **{"min.insync.replicas": "2"})
        await produce(cluster, 1, b"a")
        for number in (2, 3):
            await cluster.brokers[number].kill()  # type: ignore[index]
        await cluster.until(lambda: leader_of(cluster, 1).state.under_min_isr)
        # One of those may be eligible and lead again, without this one hearing of it.
        assert leader_of(cluster, 1).state.possible_successors == {2, 3}
        assert not await still_leads(leader_of(cluster, 1), lambda: False)
        assert await still_leads(leader_of(cluster, 1), lambda: True)

    simulated(test)


def test_whoever_waits_is_told_when_the_leadership_ends() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await deposed(cluster)
        asked = asyncio.create_task(still_leads(leader_of(cluster, 1), lambda: True))
        await asyncio.sleep(0)
        cluster.mend_all()
        assert not await asked
        await cluster.until(lambda: not led(cluster, 1))

    simulated(test)


def test_rule_4_a_lower_minimum_moves_nothing_of_a_leader_that_the_same_metadata_depose() -> None:
    async def test(cluster: SimulatedCluster) -> None:
        await topic(cluster)
        await produce(cluster, 1, b"a")
        cut_off(cluster, 1, 2, 3)
        assert (await produce(cluster, 1, b"b")).error is not ErrorCode.NONE
        await cluster.until(lambda: leader_of(cluster, 1).state.under_min_isr)
        await produce(cluster, 1, b"never committed", acks=1)
        before = partition(cluster, 1).high_watermark
        cut_off(cluster, 1, 0)
        await cluster.until(lambda: led(cluster, 2) or led(cluster, 3))
        cluster.configure("t", {"min.insync.replicas": "1"})
        advanced: list[int] = []
        told: list[bool] = []
        deposed_leader = leader_of(cluster, 1)
        deposed_leader._high_watermark_advanced = advanced.append  # type: ignore[method-assign, assignment]
        deposed_leader.confirm(told.append)
        cluster.mend_all()
        await cluster.until(lambda: not led(cluster, 1))
        assert (advanced, told) == ([], [False])
        assert partition(cluster, 1).config.min_insync_replicas == 1
        assert partition(cluster, 1).high_watermark >= before

    simulated(test)
