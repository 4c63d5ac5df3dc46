"""DESIGN.md section 5, row by row: first what pysyncobj 0.3.17 does as released, then that ours does not.

A first half that fails means that the library has changed: read it again before the pin moves.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pysyncobj.serializer
import pysyncobj.tcp_connection
import pytest
from harness.memory_disk import DiskDiedError
from harness.raft_by_hand import Node, entries
from harness.raft_network import FOLDER, LogMachine, RaftNetwork
from harness.released_raft import ReleasedNode, library_clock, released_journal
from klamm.controller.journal import Journal
from klamm.controller.quorum_folder import QuorumFolder, format_new
from klamm.controller.raft_contract import (
    NO_OP,
    DataFolderError,
    OutcomeUnknownError,
    RaftConfig,
    RaftRole,
)
from klamm.controller.vote_store import VoteStore
from klamm.proto.identifiers import NodeId
from klamm.proto.raft_pb2 import (
    AppendEntries,
    RequestVote,
    VoteGranted,
)
from pysyncobj import SyncObj, replicated
from pysyncobj.tcp_connection import TcpConnection

JOURNAL = FOLDER / Journal.FILE_NAME
VOTES = FOLDER / VoteStore.FILE_NAME


# Row 1: nothing is synced, nothing has a checksum.


def test_row_01_entries_terms_and_votes_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    for name in ("fsync", "fdatasync"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda fd, original=original: (syncs.append(fd), original(fd)))
    released = released_journal(tmp_path / "released")
    released.add(b"x", 1, 0)
    released.setCurrentTerm(3, "me")
    assert not syncs
    released._destroy()

    format_new(tmp_path / "ours", "q")
    folder = QuorumFolder.open(tmp_path / "ours", node_id=NodeId(0), voters=[NodeId(0)])
    assert folder is not None
    syncs.clear()
    folder.journal.add(b"\x00x", 2, 0)
    folder.journal.add(b"\x00y", 3, 0)
    folder.journal.sync()
    assert len(syncs) == 1  # for both
    folder.journal.setCurrentTerm(3, NodeId(0))
    assert len(syncs) == 3  # the file and its folder
    folder.close()


def test_row_01_a_power_cut_takes_nothing_that_was_acked() -> None:
    node = Node()
    answers = node.append(entries(2, 5), (1, 0), commit=1)
    assert answers[-1][1].next_node_index.next_node_index == 6
    node.disk.lose_power()
    assert Node(disk=node.disk).log == node.log


def test_row_01_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "released"
    released = released_journal(path)
    released.add(b"take 100", 1, 0)
    released._destroy()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"take 100", b"take 900"))
    reopened = released_journal(path)
    assert reopened[0] == (b"take 900", 1, 0)
    reopened._destroy()

    node = Node()
    node.append([(b"\x00take 100", 2, 1)], (1, 0), commit=1)
    node.core.close()
    content = node.disk.read(JOURNAL)
    assert content is not None
    node.disk.flip_byte(JOURNAL, content.index(b"take 100") + 5)
    with pytest.raises(DataFolderError, match=r"metadata.journal: corrupt.*readmit"):
        Node(disk=node.disk)


# Row 2: compaction rewrites the journal in place.


def test_row_02_a_crash_in_a_compaction_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "released"
    released = released_journal(path)
    for index in range(1, 101):
        released.add(b"x", index, 1)
    added = []

    def die_after_three(*entry: Any) -> None:
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(entry)
        type(released).add(released, *entry)

    released.add = die_after_three
    with pytest.raises(KeyboardInterrupt):
        released.deleteEntriesTo(50)
    released._destroy()
    reopened = released_journal(path)
    assert [entry[1] for entry in reopened[:]] == [51, 52, 53]
    reopened._destroy()

    for operations in range(6):
        for kill in (True, False):
            node = Node()
            node.append(entries(2, 100), (1, 0), commit=1)
            node.disk.crash_after = operations
            try:
                node.folder.journal.deleteEntriesTo(50)
            except DiskDiedError:
                pass
            node.disk.kill() if kill else node.disk.lose_power()
            kept = [entry[1] for entry in Journal.open(node.disk, FOLDER, VoteStore.open(node.disk, FOLDER))[:]]
            assert kept in (list(range(1, 101)), list(range(51, 101)))


# Row 3: damaged meta and dump files are passed over in silence.


def test_row_03_a_torn_vote_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "released"
    released = released_journal(path)
    released.add(b"x", 1, 0)
    released.setCurrentTerm(7, "other")
    released._destroy()
    Path(f"{path}.meta").write_bytes(b"")
    reopened = released_journal(path)
    assert (reopened.getCurrentTerm(), reopened.getVotedForNodeId()) == (0, None)
    reopened._destroy()

    for damage in (b"", b"version=1\nterm=7\nvoted.for=1\n"):
        node = Node()
        node.receive(1, request_vote=RequestVote(term=7, last_log_index=1))
        node.disk.replace(VOTES, damage)
        with pytest.raises(DataFolderError, match=r"quorum-state: corrupt or torn.*readmit"):
            Node(disk=node.disk)


def test_row_03_rule_25_a_damaged_snapshot_stops_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(b"garbage")
    with caplog.at_level(logging.CRITICAL):
        released = ReleasedNode(fullDumpFile=str(dump), journalFile=str(tmp_path / "journal"), useFork=False)
        released.raft.doTick()
    assert released.log == [(b"\x01", 1, 0)]  # as if it were new
    released.raft.destroy()

    network = RaftNetwork(1)
    for node_id in network.voters:
        network.start(node_id)
    network.run(1_000)
    for number in range(40):
        network.propose(f"c{number}")
        network.run(20)
    disk = network.controllers[NodeId(0)].disk
    network.kill(NodeId(0))
    disk.flip_byte(FOLDER / "metadata.snapshot", 40)
    with pytest.raises(DataFolderError, match=r"metadata.snapshot: corrupt.*readmit"):
        network.start(NodeId(0))


# Row 4: a follower cuts its log on any append whose previous entry is not its last one.


def test_row_04_a_late_append_cuts_nothing() -> None:
    released = ReleasedNode()
    released.append(entries(2, 10), (1, 0), commit=10)
    assert released.raft.raftCommitIndex == 10
    released.append(entries(6, 7), (5, 1), commit=10)
    assert (released.log[-1][1], released.raft.raftCommitIndex) == (7, 7)

    node = Node()
    node.append(entries(2, 10), (1, 0), commit=10)
    node.append(entries(6, 7), (5, 1), commit=10)
    assert (node.core.last_index, node.core.commit_index) == (10, 10)


def test_row_04_a_conflict_is_cut_where_it_begins() -> None:
    node = Node()
    node.append(entries(2, 10), (1, 0), commit=4)
    answers = node.append(entries(5, 6, 1) + entries(7, 8, 2), (4, 1), commit=4, term=2)
    assert node.log[4:] == entries(5, 6, 1) + entries(7, 8, 2)
    assert answers[-1][1].next_node_index.next_node_index == 9


# Found beside row 4: the commit index runs ahead of what was compared.


def test_a_commit_index_does_not_pass_what_was_compared() -> None:
    """A part of a snapshot moves the released follower's commit index over entries of a deposed leader."""
    released = ReleasedNode()
    released.append(entries(2, 5), (1, 0), commit=1)
    released.receive(2, type="append_entries", term=2, commit_index=50, serialized=(b"part", True, False))
    assert released.raft.raftCommitIndex == 5  # entries of term 1 that nobody else has

    node = Node()
    node.append(entries(2, 5), (1, 0), commit=1)
    heartbeat = AppendEntries(term=2, commit_index=50, has_previous=True, previous_index=1, previous_term=0)
    node.receive(2, append_entries=heartbeat)
    assert node.core.commit_index == 1
    node.receive(2, install_snapshot={"term": 2, "commit_index": 50, "total_bytes": 9, "data": b"p", "last_index": 49})
    assert node.core.commit_index == 1


# Row 5: answers carry no term, votes no name.


def test_row_05_an_answer_to_an_earlier_term_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode()
        released.lead(clock)
        released.receive(1, type="next_node_idx", next_node_idx=3, reset=False, success=True)  # of whatever term
        released.raft.doTick()
        assert released.raft.raftCommitIndex == 2

    node = Node()
    node.lead()
    committed = node.core.commit_index
    node.core.propose(b"x", lambda _: None)
    node.core.step()
    node.ack(1, term=node.core.term - 1)
    assert node.core.commit_index == committed
    node.ack(1)
    assert node.core.commit_index == committed + 1


def test_row_05_a_repeated_vote_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode(nodes=5)
        released.lead(clock, votes=(1, 1))  # two of five

    node = Node(nodes=5)
    node.campaign()
    for voter in (1, 1, 1):
        node.receive(voter, vote_granted=VoteGranted(term=node.core.term))
    node.ack(1)
    assert node.core.role is RaftRole.CANDIDATE
    assert node.core.leader_id is None
    assert node.core.last_index == 1  # no no-op: it does not lead
    node.receive(2, vote_granted=VoteGranted(term=node.core.term))
    assert node.core.last_index == 2


def test_row_05_a_late_vote_of_an_earlier_term_makes_no_repeated_one_count() -> None:
    node = Node(nodes=5)
    node.campaign()
    earlier = node.core.term
    node.campaign()
    assert node.core.term > earlier
    node.receive(1, vote_granted=VoteGranted(term=node.core.term))
    node.receive(2, vote_granted=VoteGranted(term=earlier))
    node.receive(1, vote_granted=VoteGranted(term=node.core.term))
    assert node.core.last_index == 1  # two of five: it does not lead


def test_row_05_a_node_that_was_cut_off_does_not_depose_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode()
        released.lead(clock)
        released.receive(2, type="request_vote", term=9, last_log_index=1, last_log_term=0)
        assert not released.raft._isLeader()

    network = RaftNetwork(4, config=RaftConfig())
    for node_id in network.voters:
        network.start(node_id)
    assert network.run(5_000, lambda: network.leader() is not None)
    leader = network.leader()
    assert leader is not None and leader.core is not None
    term = leader.core.term
    away = next(node_id for node_id in network.voters if node_id != leader.node_id)
    network.cut_off(away)
    network.run(30_000)
    network.heal()
    network.run(10_000)
    assert (leader.core.role, leader.core.term) == (RaftRole.LEADER, term)


# Row 6: a leader that is cut off believes for 30 seconds that it leads.


def test_row_06_a_leader_without_a_majority_steps_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode()
        released.lead(clock)
        clock.now += 29
        released.raft.doTick()
        assert released.raft._isLeader()

    network = RaftNetwork(5, config=RaftConfig())
    for node_id in network.voters:
        network.start(node_id)
    assert network.run(5_000, lambda: network.leader() is not None)
    for _ in range(20):
        leader = network.leader()
        assert leader is not None and leader.core is not None
        core = leader.core
        network.run(network.random.randrange(1_000))
        network.cut_off(leader.node_id)
        assert network.run(1_500, lambda core=core: core.role is not RaftRole.LEADER)
        network.heal()
        network.run(10_000)


# Row 7: batching waits for 100 ms.


def test_row_07_a_command_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode(node_class=Counter)
        released.lead(clock)
        released.transport.sent.clear()
        released.raft.add(1)
        released.raft.doTick()
        clock.now += 0.09
        released.raft.doTick()
        assert not released.transport.sent

    node = Node()
    node.lead()
    node.core.propose(b"x", lambda _: None)
    sent = node.core.tick()
    assert [message.append_entries.entries[0].command for _, message in sent] == [b"\x00x"] * 2


def test_row_07_a_burst_is_one_message_and_one_sync() -> None:
    node = Node()
    node.lead()
    before = node.disk.operations
    for _ in range(50):
        node.core.propose(b"x", lambda _: None)
    sent = node.core.step()
    assert [len(message.append_entries.entries) for _, message in sent] == [50, 50]
    assert node.disk.operations - before <= 3  # write, sync, and a note of how far


# Row 8: an exception in the replicated method stops the log for good.


class Counter(SyncObj):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.added = 0

    @replicated
    def add(self, number: int) -> None:
        self.added += 1
        raise ValueError(number)


def test_row_08_a_bad_command_is_an_answer_and_a_bug_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode(node_class=Counter)
        released.lead(clock)
        released.raft.add(1)
        released.raft.doTick()
        released.receive(1, type="next_node_idx", next_node_idx=4, reset=False, success=True)
        for _ in range(3):
            with pytest.raises(ValueError, match="1"):
                released.raft.doTick()
        assert released.raft.added == 3  # the same entry, over and over
        assert released.raft.raftLastApplied == 2

    class Machine(LogMachine):
        def apply(self, command: bytes, index: int, term: int) -> bytes:
            if command == b"bug":
                raise ValueError(command)
            super().apply(command, index, term)
            return b"error: " + command

    node = Node(machine=Machine())
    node.lead()
    answers: list[bytes | Exception] = []
    for command in (b"bad", b"good"):
        node.core.propose(command, answers.append)
    node.core.step()
    node.ack(1)
    assert answers == [b"error: bad", b"error: good"]
    node.core.propose(b"bug", answers.append)
    node.core.step()
    with pytest.raises(ValueError, match="bug"):
        node.ack(1)  # RaftNode ends the node here: test_raft_node.py


# Row 9: command ids are positions in the sorted list of methods.


def test_row_09_a_journal_holds_commands_not_numbers_of_methods() -> None:
    class One(SyncObj):
        @replicated
        def charge(self) -> None: ...

    class Two(One):
        @replicated
        def cancel(self) -> None: ...

    first, second = ReleasedNode(node_class=One).raft, ReleasedNode(node_class=Two).raft
    assert first._methodToID["charge_v0"] == 0
    assert second._idToMethod[0].__name__ == "cancel_v0"

    node = Node()
    assert node.core._library._idToMethod == {}
    node.lead()
    node.core.propose(b"the command itself", lambda _: None)
    assert node.log[-1][0] == b"\x00the command itself"


# Row 10: what became of a command is not known when leadership is lost, and nobody says so.


def test_row_10_who_proposed_is_told_that_the_outcome_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    with library_clock(monkeypatch) as clock:
        released = ReleasedNode(node_class=Counter)
        released.lead(clock)
        told: list[Any] = []
        released.raft.add(1, callback=lambda *result: told.append(result))
        released.raft.doTick()
        released.append([], (1, 0), commit=1, term=9)
        released.raft.doTick()
        assert not released.raft._isLeader()
        assert not told

    node = Node()
    node.lead()
    answers: list[bytes | Exception] = []
    node.core.propose(b"x", answers.append)
    node.core.step()
    node.append([], (1, 0), commit=1, term=9)
    assert [type(answer) for answer in answers] == [OutcomeUnknownError]


# Row 11: snapshots fork.


def test_row_11_a_snapshot_forks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise ChildProcessError("forked")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", fork)
        released = pysyncobj.serializer.Serializer(str(tmp_path / "dump"), 100, True, None, None, None)
        with pytest.raises(ChildProcessError):
            released.serialize(({}, (b"", 2, 1), (b"", 1, 1), set()), 1)

        network = RaftNetwork(1)
        for node_id in network.voters:
            network.start(node_id)
        network.run(1_000)
        for number in range(40):
            network.propose(f"c{number}")
            network.run(20)
        assert all(c.disk.read(FOLDER / "metadata.snapshot") for c in network.controllers.values())
        network.settle()


# Row 12: the wire is pickle.


class _RunsCode:
    ran = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _run_code, ()


def _run_code() -> None:
    _RunsCode.ran += 1


def test_row_12_bytes_from_the_wire_are_never_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    body = zlib.compress(pickle.dumps(_RunsCode()))
    connection = TcpConnection(None)
    connection._TcpConnection__readBuffer = len(body).to_bytes(4, "little") + body
    connection._TcpConnection__processParseMessage()
    assert _RunsCode.ran == 1

    released = ReleasedNode()
    released.append([(b"\x03" + pickle.dumps(_RunsCode()), 2, 1)], (1, 0), commit=2)
    with pytest.raises(TypeError):
        released.raft.doTick()  # the "version" it was told of is what the code returned
    assert _RunsCode.ran == 2

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickle")

    node = Node()
    for name in ("loads", "_loads", "load", "dumps", "dump"):
        monkeypatch.setattr(pickle, name, refuse)
    for kind in (b"\x02", b"\x03", b"", b"\x04x", b"\x01x"):
        assert not node.append([(kind + b"x", 2, 1)] if kind else [(b"", 2, 1)], (1, 0), commit=2)
    assert node.log == [(NO_OP, 1, 0)]
    node.append(entries(2, 3), (1, 0), commit=3)
    assert node.machine.applied == [(2, "2"), (3, "3")]


# Found beside the table.


def test_a_crash_between_snapshot_and_compaction_forgets_nothing(tmp_path: Path) -> None:
    """The released node drops its whole journal if it does not begin where the dump ends, acked entries and all."""
    dump, journal = str(tmp_path / "dump"), tmp_path / "journal"
    released = ReleasedNode(fullDumpFile=dump, journalFile=str(journal), useFork=False)
    released.append([(b"\x01", index, 1) for index in range(2, 11)], (1, 0), commit=5)
    released.raft.doTick()
    released.raft.forceLogCompaction()
    released.raft.doTick()  # the dump is there; the journal is compacted in the next tick, which never comes
    released.raft.destroy()
    again = ReleasedNode(fullDumpFile=dump, journalFile=str(journal), useFork=False)
    again.raft.doTick()
    assert again.log[-1][1] == 5  # it had acked up to 10
    again.raft.destroy()

    node = Node()
    node.append(entries(2, 10), (1, 0), commit=5)
    node.core._library.forceLogCompaction()
    node.core.step()
    node.disk.lose_power()
    assert node.disk.read(FOLDER / "metadata.snapshot") is not None
    reopened = Node(disk=node.disk)
    assert [entry[1] for entry in reopened.log] == [4, 5, 6, 7, 8, 9, 10]
    assert reopened.machine.applied == [(index, str(index)) for index in range(2, 6)]


def test_a_snapshot_of_before_the_compaction_takes_no_newer_entries_away() -> None:
    """One entry too old: the journal still holds its last entry, but no longer the one before."""
    node = Node()
    node.append(entries(2, 10), (1, 0), commit=5)
    node.core._library.forceLogCompaction()
    node.core.step()
    old = node.disk.read(FOLDER / "metadata.snapshot")
    assert old is not None
    node.append([], (6, 1), commit=6)
    node.core._library.forceLogCompaction()
    node.core.step()
    node.core.step()
    assert [entry[1] for entry in node.log] == [5, 6, 7, 8, 9, 10]
    node.disk.kill()
    node.disk.replace(FOLDER / "metadata.snapshot", old)
    with pytest.raises(DataFolderError, match="missing or old"):
        Node(disk=node.disk)


def test_an_old_snapshot_takes_no_newer_entries_away() -> None:
    """The released follower takes any snapshot that comes in place of its log, whatever it holds and has committed."""
    leader = Node()
    leader.append(entries(2, 6), (1, 0), commit=6)
    leader.core._library.forceLogCompaction()
    leader.core.step()
    data = leader.disk.read(FOLDER / "metadata.snapshot")
    assert data is not None
    late = {"term": 1, "commit_index": 6, "data": data, "total_bytes": len(data), "last_index": 6, "last_term": 1}

    for commit in (3, 10):
        node = Node()
        node.append(entries(2, 10), (1, 0), commit=commit)
        answers = node.receive(1, install_snapshot=late)
        assert node.log[-1][1] == 10
        assert node.core.commit_index == max(commit, 6)
        assert answers[-1][1].next_node_index.success


# Beyond the table: importing the library breaks socket.inet_ntop for the whole process on any system but Windows.


@pytest.mark.parametrize(("module", "works"), [("pysyncobj.syncobj", False), ("klamm.controller.raft_node", True)])
def test_the_import_leaves_the_socket_module_as_it_was(module: str, works: bool) -> None:
    program = f"import {module}, socket; print(socket.inet_ntop(socket.AF_INET6, bytes(15) + bytes([1])))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode == 0, done.stdout.strip()) == (works, "::1" if works else "")
