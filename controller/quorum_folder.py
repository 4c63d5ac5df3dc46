"""A controller's data folder: how a new quorum's, a member's and a wiped one are told apart, and how each is opened.

A wiped controller must not take part as if it knew the past: it could vote for a leader that lacks what it once acked.
So a folder carries a marker, `quorum.properties`, that is written by hand or by the launcher and never by a start:

    state     written by                          what the controller may do
    (none)    nobody: new, or wiped               nothing; a non-voter until its folder is formatted or re-admitted
    new       `format_new`                        everything: it never voted or acked, so nothing was forgotten
    member    the first start of a new folder,    everything; journal and quorum-state must be there and sound
              or admission by the leader
    learner   `readmit`                           takes entries from the leader; votes and counts for a commit
                                                  only once it is admitted (raft_learners.py), which makes it a member

Moves: new -> member, learner -> member. `readmit` takes a folder without a marker, or sets aside what it holds, first.
Every folder of a new quorum is formatted once, with one quorum id, before the first start; a message that carries
another quorum's id is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from ..proto.identifiers import NodeId
from .checked_properties import decode_properties, encode_properties
from .file_system import FileSystem, Lock, PosixFileSystem
from .journal import Journal
from .raft_contract import NO_OP, DataFolderError
from .snapshot_store import SnapshotStore
from .vote_store import VoteStore
from .way_out import WAY_OUT

logger = logging.getLogger(__name__)

MARKER: Final = "quorum.properties"
_FILES: Final = (MARKER, VoteStore.FILE_NAME, Journal.FILE_NAME, SnapshotStore.FILE_NAME)
_QUORUM_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class FolderState(Enum):
    """What a folder says of the controller that owns it."""

    NEW = "new"
    MEMBER = "member"
    LEARNER = "learner"


@dataclass(frozen=True, slots=True)
class QuorumProperties:
    """The marker. Node id and voters are those of the first start; None before it."""

    quorum_id: str
    state: FolderState
    learner_id: int = 0  # not 0 in a learner: tells this re-admission from every other
    node_id: NodeId | None = None
    voters: tuple[NodeId, ...] = ()


def format_new(data_folder: Path, quorum_id: str, *, file_system: FileSystem | None = None) -> None:
    """Makes the folder of a controller of a brand-new quorum. Call it once for each of its controllers.

    :raises DataFolderError: the folder is formatted already, or holds a controller's files
    """
    disk = file_system or PosixFileSystem()
    _check_quorum_id(quorum_id)
    held = _held_files(disk, data_folder)
    if held:
        raise DataFolderError(
            f"{data_folder}: holds {', '.join(held)} already; formatting it as new would forget what it has acked. "
            "To let a wiped or damaged controller join its quorum again, use readmit"
        )
    _write_marker(disk, data_folder, QuorumProperties(quorum_id, FolderState.NEW))


def readmit(
    data_folder: Path,
    quorum_id: str,
    *,
    learner_id: int,
    set_aside: bool = False,
    file_system: FileSystem | None = None,
) -> None:
    """Lets a wiped controller join its quorum again, empty: at its next start it learns from the leader, then votes.

    Safe only while a majority of the quorum, this controller not counted, still has its data: what was acked must be
    somewhere. `learner_id` is a random number that was never used before. With `set_aside`, files that are there (a
    damaged journal, say) are moved into a folder beside them instead of being refused.

    :raises DataFolderError: the folder holds a controller's files and `set_aside` is false
    """
    disk = file_system or PosixFileSystem()
    _check_quorum_id(quorum_id)
    if learner_id <= 0:
        raise ValueError("learner_id must be above 0")
    lock = disk.lock(data_folder)
    try:
        held = _held_files(disk, data_folder)
        if held and not set_aside:
            raise DataFolderError(
                f"{data_folder}: holds {', '.join(held)}; a controller that has its files needs no re-admission. "
                "If they are damaged, pass --set-aside, which keeps them in a folder beside"
            )
        aside = data_folder / f"set-aside-{learner_id:016x}"
        for name in held:
            disk.move(data_folder / name, aside / name)
        _write_marker(disk, data_folder, QuorumProperties(quorum_id, FolderState.LEARNER, learner_id))
    finally:
        lock.release()


class QuorumFolder:
    """An open data folder, locked for this process."""

    def __init__(self, file_system: FileSystem, folder: Path, lock: Lock, properties: QuorumProperties) -> None:
        self._file_system = file_system
        self._folder = folder
        self._lock = lock
        self.properties = properties
        self.journal: Journal

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        node_id: NodeId,
        voters: Collection[NodeId],
        file_system: FileSystem | None = None,
    ) -> QuorumFolder | None:
        """Opens it as its marker says; None if it has none and holds nothing: new or wiped, nobody knows.

        :raises DataFolderError: damaged, of another controller, of a quorum with other voters, or in use
        """
        disk = file_system or PosixFileSystem()
        lock = disk.lock(folder)
        try:
            properties = _read_marker(disk, folder)
            if properties is None:
                held = _held_files(disk, folder)
                if held:
                    raise DataFolderError(f"{folder / MARKER}: missing, yet {', '.join(held)} is there. {WAY_OUT}")
                lock.release()
                return None
            _check_owner(folder, properties, node_id, tuple(sorted(voters)))
            opened = cls(disk, folder, lock, properties)
            opened._open_journal()
            opened._write(
                replace(
                    properties,
                    state=FolderState.LEARNER if opened.is_learner else FolderState.MEMBER,
                    node_id=node_id,
                    voters=tuple(sorted(voters)),
                )
            )
        except BaseException:
            lock.release()
            raise
        return opened

    @property
    def is_learner(self) -> bool:
        """True until the leader admits it as a voter."""
        return self.properties.state is FolderState.LEARNER

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._folder

    @property
    def file_system(self) -> FileSystem:
        """What it is on."""
        return self._file_system

    def admit(self) -> None:
        """A learner becomes a member; on the disk when this returns."""
        self._write(replace(self.properties, state=FolderState.MEMBER, learner_id=0))

    def close(self) -> None:
        """Gives the folder back."""
        try:
            self.journal._destroy()
        finally:
            self._lock.release()

    def _open_journal(self) -> None:
        fresh = self._file_system.read(self._folder / Journal.FILE_NAME) is None
        if fresh and self.properties.state is not FolderState.MEMBER:
            # quorum-state comes first: where there is a journal, it is there too.
            votes = VoteStore.create(self._file_system, self._folder)
            self.journal = Journal.create(self._file_system, self._folder, votes, [(NO_OP, 1, 0)])
            return
        votes = VoteStore.open(self._file_system, self._folder)
        self.journal = Journal.open(self._file_system, self._folder, votes)
        if self.properties.state is FolderState.NEW and (votes.term or self.journal.last_index > 1):
            raise DataFolderError(
                f"{self._folder / MARKER}: says that this is a new quorum, but {Journal.FILE_NAME} or "
                f"{VoteStore.FILE_NAME} holds what an older one did; format an empty folder"
            )

    def _write(self, properties: QuorumProperties) -> None:
        if properties != self.properties:
            _write_marker(self._file_system, self._folder, properties)
            self.properties = properties


def _held_files(disk: FileSystem, folder: Path) -> list[str]:
    names = disk.names(folder)
    return [name for name in _FILES if name in names]


def _check_quorum_id(quorum_id: str) -> None:
    if not _QUORUM_ID.fullmatch(quorum_id):
        raise ValueError(f"quorum id {quorum_id!r}: 1 to 64 letters, digits, '.', '_' and '-'")


def _check_owner(folder: Path, properties: QuorumProperties, node_id: NodeId, voters: tuple[NodeId, ...]) -> None:
    if properties.node_id is None:
        return
    if properties.node_id != node_id:
        raise DataFolderError(f"{folder}: is controller {properties.node_id}'s data folder, not controller {node_id}'s")
    if properties.voters != voters:
        raise DataFolderError(
            f"{folder / MARKER}: this quorum's voters are {list(properties.voters)}, but controller.quorum.voters says "
            f"{list(voters)}; the voters of a quorum do not change"
        )


def _write_marker(disk: FileSystem, folder: Path, properties: QuorumProperties) -> None:
    lines = {
        "version": "1",
        "quorum.id": properties.quorum_id,
        "state": properties.state.value,
        "learner.id": str(properties.learner_id),
        "node.id": "" if properties.node_id is None else str(properties.node_id),
        "voters": ",".join(str(voter) for voter in properties.voters),
    }
    disk.replace(folder / MARKER, encode_properties(lines))


def _read_marker(disk: FileSystem, folder: Path) -> QuorumProperties | None:
    path = folder / MARKER
    data = disk.read(path)
    if data is None:
        return None
    lines = decode_properties(data, path, WAY_OUT)
    try:
        return QuorumProperties(
            quorum_id=lines["quorum.id"],
            state=FolderState(lines["state"]),
            learner_id=int(lines["learner.id"]),
            node_id=NodeId(int(lines["node.id"])) if lines["node.id"] else None,
            voters=tuple(NodeId(int(voter)) for voter in lines["voters"].split(",") if voter),
        )
    except (KeyError, ValueError) as error:
        raise DataFolderError(f"{path}: not a quorum's marker ({error!r}). {WAY_OUT}") from None
