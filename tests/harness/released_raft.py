"""pysyncobj as released, driven by hand: for tests that show what it does where ours does otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysyncobj
import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.journal import FileJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport


class RecordingTransport(Transport):
    """Keeps what is sent; what comes in is passed on by the test."""

    def __init__(self) -> None:
        super().__init__(None, None, None)
        self.sent: list[tuple[int, dict[str, Any]]] = []

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True


class ReleasedNode:
    """One node of the library, untouched."""

    def __init__(self, *, nodes: int = 3, node_class: Callable[..., SyncObj] = SyncObj, **settings: Any) -> None:
        self.transport = RecordingTransport()
        self.peers = [Node(number) for number in range(1, nodes)]
        conf = SyncObjConf(autoTick=False, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves files open
            self.raft = node_class(Node(0), list(self.peers), conf=conf, transport=self.transport)
        for peer in self.peers:
            self.transport._onNodeConnected(peer)

    def private(self, name: str) -> Any:
        """One of its private attributes."""
        return getattr(self.raft, f"_SyncObj__{name}")

    def receive(self, sender: int, **message: Any) -> None:
        """A message from a peer."""
        self.transport._onMessageReceived(self.peers[sender - 1], message)

    def append(
        self, entries: list[tuple[bytes, int, int]], previous: tuple[int, int], commit: int, term: int = 1
    ) -> None:
        """An append_entries from node 1."""
        self.receive(
            1,
            type="append_entries",
            term=term,
            commit_index=commit,
            entries=entries,
            prevLogIdx=previous[0],
            prevLogTerm=previous[1],
        )

    def lead(self, clock: LibraryClock, votes: tuple[int, ...] = (1,)) -> None:
        """Lets it campaign and win."""
        clock.now += 10
        self.raft.doTick()
        for voter in votes:
            self.receive(voter, type="response_vote", term=self.raft.raftCurrentTerm)
        assert self.raft._isLeader()

    @property
    def log(self) -> list[tuple[bytes, int, int]]:
        """Its entries."""
        return list(self.private("raftLog")[:])


class LibraryClock:
    """Stands in for the library's monotonic time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def library_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[LibraryClock]:
    """The library's global clock, held still."""
    clock = LibraryClock()
    with monkeypatch.context() as patch:
        patch.setattr(pysyncobj.syncobj, "monotonicTime", clock)
        yield clock


def released_journal(path: Path) -> FileJournal:
    """The library's journal on disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return FileJournal(str(path))
