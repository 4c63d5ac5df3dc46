"""RaftNode and its gRPC transport, over loopback and real files."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from harness.raft_network import LogMachine
from harness.raft_quorum import NO_HEARTBEATS, Quorum, run_quorum
from klamm.controller.file_system import JournalFile, PosixFile, PosixFileSystem
from klamm.controller.quorum_folder import MARKER, format_new
from klamm.controller.raft_contract import COMMAND_BYTES_MAX
from klamm.controller.raft_node import (
    DataFolderError,
    NotRaftLeaderError,
    OutcomeUnknownError,
    RaftConfig,
    RaftNode,
    RaftRole,
)
from klamm.controller.raft_transport import QUEUE_MESSAGES_MAX, Peer
from klamm.proto.identifiers import NodeId
from klamm.proto.raft_pb2 import AppendEntries, RaftMessage, RequestVote
from klamm.proto.raft_pb2_grpc import RaftStub


def test_commands_are_applied_on_every_node_and_answered(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        assert await leader.propose(b"one", timeout_ms=5_000) == b"done one"
        answers = await asyncio.gather(*(leader.propose(b"c%d" % n, timeout_ms=10_000) for n in range(300)))
        assert answers == [b"done c%d" % n for n in range(300)]
        assert await leader.propose(b"", timeout_ms=5_000) == b""
        await quorum.until(lambda: all(n.last_applied == leader.last_index for n in quorum.nodes.values()), "lag")
        histories = [machine.applied for machine in quorum.machines.values()]
        assert histories[0] == histories[1] == histories[2]
        assert [command for _, command in histories[0]] == ["one"] + [f"c{n}" for n in range(300)]
        await quorum.until(lambda: all(leader.lag_of(node_id) == 0 for node_id in quorum.voters), "acks")
        assert leader.commit_index == leader.last_index
        assert all(leader.is_reachable(node_id) for node_id in quorum.voters)

    run_quorum(tmp_path, test)


def test_a_follower_says_who_leads(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        follower = next(node for node in quorum.nodes.values() if node is not leader)
        await quorum.until(lambda: follower.leader_id is not None, "no heartbeat")
        before = leader.last_index
        with pytest.raises(NotRaftLeaderError) as error:
            await follower.propose(b"x", timeout_ms=1_000)
        assert error.value.leader_id == quorum.id_of(leader)
        assert leader.last_index == before
        assert follower.lag_of(NodeId(0)) is None

    run_quorum(tmp_path, test)


def test_the_leader_dies_and_another_takes_over_with_all_that_was_acked(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        for number in range(20):
            await leader.propose(b"c%d" % number, timeout_ms=5_000)
        dead = quorum.id_of(leader)
        await quorum.stop(dead)
        second = await quorum.leader()
        assert second.term > 1
        await second.propose(b"after", timeout_ms=5_000)
        await quorum.start(dead)
        await quorum.until(lambda: quorum.nodes[dead].last_applied == second.last_index, "does not catch up")
        assert len({tuple(machine.applied) for machine in quorum.machines.values()}) == 1
        assert len(quorum.machines[dead].applied) == 21

    run_quorum(tmp_path, test)


def test_everything_is_there_after_a_restart_of_all_and_with_snapshots(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        away = next(node_id for node_id in quorum.voters if quorum.nodes[node_id] is not leader)
        await quorum.stop(away)
        for block in range(5):
            await asyncio.gather(*(leader.propose(b"%d.%d" % (block, n), timeout_ms=10_000) for n in range(100)))
        assert (tmp_path / str(quorum.id_of(leader)) / "metadata.snapshot").exists()
        await quorum.start(away)
        await quorum.until(lambda: quorum.nodes[away].last_applied >= leader.commit_index, "no snapshot came")
        assert len(quorum.machines[away].applied) == 500
        await quorum.stop()
        await quorum.start()
        leader = await quorum.leader()
        await quorum.until(lambda: all(n.last_applied == leader.last_index for n in quorum.nodes.values()), "lag")
        assert {len(machine.applied) for machine in quorum.machines.values()} == {500}

    run_quorum(tmp_path, test)


def test_leadership_is_announced_once_all_before_it_is_applied(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        for number in range(30):
            await leader.propose(b"c%d" % number, timeout_ms=5_000)
        await quorum.stop()
        quorum.roles.clear()
        applied_when_announced: list[int] = []
        note = quorum._role_noter

        def noter(node_id: NodeId):  # type: ignore[no-untyped-def]
            def noted(role: RaftRole, term: int) -> None:
                if role is RaftRole.LEADER:
                    applied_when_announced.append(len(quorum.machines[node_id].applied))
                note(node_id)(role, term)

            return noted

        quorum._role_noter = noter  # type: ignore[method-assign]
        await quorum.start()
        leader = await quorum.leader()
        assert applied_when_announced == [30]
        leader_id = quorum.id_of(leader)
        await quorum.stop(leader_id)
        mine = [(role, term) for node_id, role, term in quorum.roles if node_id == leader_id]
        assert [role for role, _ in mine][-2:] == [RaftRole.LEADER, RaftRole.FOLLOWER]

    run_quorum(tmp_path, test)


def test_a_command_without_a_majority_has_an_unknown_outcome_and_the_leader_steps_down(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        leader_id = quorum.id_of(leader)
        await quorum.stop(*(node_id for node_id in quorum.voters if node_id != leader_id))
        with pytest.raises(OutcomeUnknownError, match="within 50 ms"):
            await leader.propose(b"too late", timeout_ms=50)
        with pytest.raises(OutcomeUnknownError, match="leadership was lost"):
            await leader.propose(b"alone", timeout_ms=10_000)
        assert leader.role is not RaftRole.LEADER
        with pytest.raises(NotRaftLeaderError):
            await leader.propose(b"x", timeout_ms=1_000)
        assert not any(leader.is_reachable(node_id) for node_id in quorum.voters if node_id != leader_id)

    run_quorum(tmp_path, test)


def test_a_single_controller_is_a_quorum(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        for number in range(3):
            await quorum.start()
            leader = await quorum.leader()
            await leader.propose(b"c%d" % number, timeout_ms=5_000)
            assert len(quorum.machines[NodeId(0)].applied) == number + 1
            await quorum.stop()
        RaftNode.readmit(tmp_path / "0", "test", set_aside=True)
        with pytest.raises(DataFolderError, match="nobody to learn from"):
            await quorum.start()

    run_quorum(tmp_path, test, nodes=1)


def test_a_wiped_controller_waits_for_the_operator_and_comes_back(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        wiped = next(node_id for node_id in quorum.voters if quorum.nodes[node_id] is not leader)
        await leader.propose(b"x", timeout_ms=5_000)
        await quorum.stop(wiped)
        for file in (tmp_path / str(wiped)).iterdir():
            file.unlink()
        await quorum.start(wiped)
        node = quorum.nodes[wiped]
        assert (node.role, node.is_voter, node.last_index) == (RaftRole.NON_VOTER, False, 0)
        assert not (tmp_path / str(wiped) / MARKER).exists()
        with pytest.raises(NotRaftLeaderError):
            await node.propose(b"x", timeout_ms=1_000)
        await quorum.stop(wiped)
        RaftNode.readmit(tmp_path / str(wiped), "test")
        await quorum.start(wiped)
        node = quorum.nodes[wiped]
        assert not node.is_voter
        await quorum.until(lambda: node.is_voter, "is not admitted")
        assert quorum.machines[wiped].applied == quorum.machines[quorum.id_of(leader)].applied

    run_quorum(tmp_path, test)


class FailingDisk(PosixFileSystem):
    """Its journals cannot be synced any more once `failing` is set."""

    failing = False

    def open(self, path: Path) -> JournalFile:
        disk = self

        class File(PosixFile):
            def sync(self) -> None:
                if disk.failing:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                super().sync()

        return File(path)


def test_a_node_whose_disk_fails_acks_nothing_and_stops(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        disk = FailingDisk()
        await quorum.start(0, 1, 2, file_system=disk)
        leader = await quorum.leader()
        disk.failing = True
        with pytest.raises(OutcomeUnknownError):
            await leader.propose(b"x", timeout_ms=5_000)
        await quorum.until(lambda: len(quorum.failures) >= 1, "nothing failed")
        assert isinstance(quorum.failures[0][1], OSError)
        assert not any(machine.applied for machine in quorum.machines.values())
        assert leader.role is not RaftRole.LEADER

    run_quorum(tmp_path, test)


class DeadDisk(PosixFileSystem):
    """Its journals take nothing at all once `failing` is set: remounted read-only, or gone."""

    failing = False

    def open(self, path: Path) -> JournalFile:
        disk = self

        class File(PosixFile):
            def write_at(self, data: bytes, offset: int) -> None:
                if disk.failing:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
                super().write_at(data, offset)

        return File(path)


def test_a_node_whose_disk_takes_no_last_note_either_says_that_it_failed(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        disk = DeadDisk()
        await quorum.start(0, file_system=disk)
        leader = await quorum.leader()
        await leader.propose(b"x", timeout_ms=5_000)  # what the journal would note when it is closed
        disk.failing = True
        with pytest.raises(OutcomeUnknownError):
            await leader.propose(b"y", timeout_ms=5_000)
        await quorum.until(lambda: len(quorum.failures) >= 1, "nobody was told")
        assert quorum.roles[-1][1] is RaftRole.FOLLOWER
        disk.failing = False
        await quorum.stop(0)
        await quorum.start(0)  # the folder was given back
        assert await quorum.leader() is not leader

    run_quorum(tmp_path, test, nodes=1)


def test_a_state_machine_that_raises_stops_the_node(tmp_path: Path) -> None:
    class Machine(LogMachine):
        def apply(self, command: bytes, index: int, term: int) -> bytes:
            raise ValueError("a bug")

    async def test(quorum: Quorum) -> None:
        await quorum.start(0, machine=Machine())
        leader = await quorum.leader()
        with pytest.raises(OutcomeUnknownError):
            await leader.propose(b"x", timeout_ms=5_000)
        assert [str(error) for _, error in quorum.failures] == ["a bug"]

    run_quorum(tmp_path, test, nodes=1)


def test_a_command_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        with pytest.raises(ValueError, match="the limit is"):
            await leader.propose(bytes(COMMAND_BYTES_MAX + 1), timeout_ms=1_000)
        large = b"x" * COMMAND_BYTES_MAX
        answers = await asyncio.gather(*(leader.propose(large, timeout_ms=20_000) for _ in range(3)))
        assert answers == [b"done " + large] * 3

    patient = RaftConfig(
        election_timeout_ms_min=10_000, election_timeout_ms_max=20_000, leader_fallback_timeout_ms=10_000
    )
    run_quorum(tmp_path, test, config=patient)


def test_messages_of_strangers_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        term = leader.term
        vote = RequestVote(term=99, last_log_index=99, last_log_term=99)
        append = AppendEntries(term=99, commit_index=99)
        strangers = [
            RaftMessage(sender_id=1, cluster_token="other", request_vote=vote),
            RaftMessage(sender_id=1, request_vote=vote),
            RaftMessage(sender_id=7, cluster_token="test", append_entries=append),
        ]
        for message in strangers:
            async with aio.insecure_channel("{}:{}".format(*quorum.voters[quorum.id_of(leader)])) as channel:
                call = RaftStub(channel).Exchange()
                await call.write(message)
                with pytest.raises(aio.AioRpcError) as error:
                    await call
                assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert (leader.term, leader.role) == (term, RaftRole.LEADER)

    run_quorum(tmp_path, test)
    assert caplog.text.count("raft_message_refused") == 3


def test_two_quorums_do_not_mix(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        (tmp_path / "2" / MARKER).unlink()
        format_new(tmp_path / "2", "other")
        await quorum.start()
        await quorum.leader()
        assert quorum.nodes[NodeId(2)].term == 0
        assert quorum.nodes[NodeId(2)].role is not RaftRole.LEADER

    run_quorum(tmp_path, test)


def test_a_controller_that_was_told_of_other_voters_takes_no_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of three and three of five are both majorities, and need not have a controller in common."""

    async def test(quorum: Quorum) -> None:
        await quorum.start(0, 1)
        leader = await quorum.leader()
        await leader.propose(b"x", timeout_ms=5_000)
        quorum.voters |= {NodeId(3): ("127.0.0.1", 1), NodeId(4): ("127.0.0.1", 1)}
        await quorum.start(2)
        await quorum.until(lambda: "own_quorum=test/0,1,2,3,4" in caplog.text, "it takes what the leader sends")
        assert quorum.nodes[NodeId(2)].last_index == 1
        assert (leader.role, leader.commit_index) == (RaftRole.LEADER, leader.last_index)

    run_quorum(tmp_path, test)


def test_stopping_twice_and_before_the_start_is_harmless(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        node = quorum.nodes[NodeId(0)]
        await node.stop()
        await node.stop()
        assert node.role is RaftRole.NON_VOTER

    run_quorum(tmp_path, test)


class _EarlyLoop(asyncio.SelectorEventLoop):
    """What uvloop does, made coarser: it rounds a timer to its ticks, so that one may fire before its time by the
    loop's own clock, and one that is due within a tick is called soon, by a handle that has no time."""

    def __init__(self, tick_s: float) -> None:
        super().__init__()
        self._tick_s = tick_s

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if when - self.time() < self._tick_s:
            return self.call_soon(callback, *args, context=context)  # type: ignore[return-value]
        return super().call_at(when - self._tick_s / 2, callback, *args, context=context)


@pytest.mark.parametrize("tick_s", [0.001, 0.005, 0.5])
def test_a_node_whose_timers_fire_early_goes_on(tmp_path: Path, tick_s: float) -> None:
    """Such a timer once broke every step from then on, or was the last; the node never told of its lost leadership."""

    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        for number in range(50):
            await leader.propose(b"c%d" % number, timeout_ms=5_000)
        old = quorum.id_of(leader)
        await quorum.stop(*(node_id for node_id in quorum.voters if node_id != old))
        await quorum.until(lambda: (old, RaftRole.FOLLOWER, leader.term) in quorum.roles, "its loss is not told")
        await quorum.until(lambda: leader.role is not RaftRole.LEADER, "it leads alone")

    problems: list[dict[str, Any]] = []

    def early_loop() -> asyncio.AbstractEventLoop:
        loop = _EarlyLoop(tick_s)
        loop.set_exception_handler(lambda _, problem: problems.append(problem))
        return loop

    run_quorum(tmp_path, test, loop_factory=early_loop)
    assert problems == []


def test_a_node_ends_when_who_hears_of_its_roles_breaks(tmp_path: Path) -> None:
    """Roles that nobody heard of would leave two controllers that think they are active."""

    async def test(quorum: Quorum) -> None:
        note = quorum._role_noter

        def noter(node_id: NodeId) -> Callable[[RaftRole, int], None]:
            def noted(role: RaftRole, term: int) -> None:
                note(node_id)(role, term)
                if role is RaftRole.LEADER:
                    raise RuntimeError("no")

            return noted

        quorum._role_noter = noter  # type: ignore[method-assign]
        await quorum.start()
        await quorum.until(lambda: bool(quorum.failures), "it goes on")
        node_id, error = quorum.failures[0]
        assert str(error) == "no"
        assert quorum.nodes[node_id].role is RaftRole.NON_VOTER
        assert [role for each, role, _ in quorum.roles if each == node_id][-1] is RaftRole.FOLLOWER

    run_quorum(tmp_path, test, nodes=1)


def test_neither_an_election_nor_a_commit_waits_for_a_heartbeat_or_for_silence(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()  # nobody led: the first connection is enough
        await quorum.connected()
        for number in range(200):
            await leader.propose(b"%d" % number, timeout_ms=20_000)  # the library by itself sends with its heartbeats
        await quorum.until(lambda: all(node.last_applied == leader.last_index for node in quorum.nodes.values()), "lag")

    run_quorum(tmp_path, test, config=NO_HEARTBEATS)


def test_the_connection_to_a_leader_breaks_and_its_silence_is_not_waited_for(tmp_path: Path) -> None:
    async def test(quorum: Quorum) -> None:
        await quorum.start()
        leader = await quorum.leader()
        first = quorum.id_of(leader)
        followers = [node for node in quorum.nodes.values() if node is not leader]
        await quorum.connected()
        await leader.propose(b"before", timeout_ms=20_000)  # for who was connected too late for its first word
        await quorum.until(lambda: all(node.leader_id == first for node in followers), "not all know the leader")
        await quorum.stop(first)
        second = await quorum.leader()
        await second.propose(b"after", timeout_ms=20_000)

    run_quorum(tmp_path, test, config=NO_HEARTBEATS)


def test_the_queue_to_a_peer_is_bounded_and_empty_while_it_is_away(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(NodeId(1), "127.0.0.1", 1)
    peer.send(RaftMessage(sender_id=0))
    assert peer.queued == 0
    peer.connected = True
    for _ in range(QUEUE_MESSAGES_MAX + 5):
        peer.send(RaftMessage(sender_id=0))
    assert peer.queued == QUEUE_MESSAGES_MAX
    assert caplog.text.count("raft_message_dropped") == 1  # said once, not for each
