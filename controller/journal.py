"""The Raft journal: entries, term and vote on disk, in the shape in which pysyncobj wants them (its `Journal`).

What the library's own journal lacks (DESIGN.md section 5): a checksum for each entry, a sync before anything is acked,
a compaction that a crash cannot tear, and a start that refuses a damaged file instead of taking it for an empty one.

`add` keeps an entry in memory until `sync`, which writes all of them at once and returns when they are on the disk. The
node calls it before any message leaves and before anything counts as committed, so that a burst costs one sync.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import overload

from ..cluster.invariant import invariant
from ..proto.identifiers import NodeId
from .file_system import FileSystem, JournalFile
from .journal_format import SYNCED_END_AT, encode_entry, encode_file, encode_synced_end, scan_journal
from .raft_contract import DataFolderError, Entry
from .vote_store import VoteStore
from .way_out import WAY_OUT

logger = logging.getLogger(__name__)


class Journal:
    """Entries `first_index` to `last_index`, of which those up to `synced_index` are on the disk."""

    FILE_NAME = "metadata.journal"
    preallocated_bytes = 256 * 1024

    def __init__(
        self,
        file_system: FileSystem,
        path: Path,
        votes: VoteStore,
        entries: list[Entry],
        offsets: list[int],
        end: int,
    ) -> None:
        self._file_system = file_system
        self._path = path
        self._votes = votes
        self._entries = entries
        self._offsets = offsets  # where each synced entry begins; shorter than _entries by what is not synced yet
        self._end = end
        self._allocated = end  # the file's size: zeros from _end on
        self._marked = end  # the synced end that the file's header tells
        self._file: JournalFile = file_system.open(path)

    @classmethod
    def create(cls, file_system: FileSystem, folder: Path, votes: VoteStore, entries: Iterable[Entry]) -> Journal:
        """A node's first journal, on the disk when this returns."""
        kept = list(entries)
        data, offsets = encode_file(kept)
        path = folder / cls.FILE_NAME
        file_system.replace(path, data)
        return cls(file_system, path, votes, kept, offsets, len(data))

    @classmethod
    def open(cls, file_system: FileSystem, folder: Path, votes: VoteStore) -> Journal:
        """The journal as it was left; a torn end that was never acked is cut off.

        :raises DataFolderError: missing, or something that was durable is damaged
        """
        path = folder / cls.FILE_NAME
        data = file_system.read(path)
        if data is None:
            raise DataFolderError(f"{path}: missing; this controller would not know what it has acked. {WAY_OUT}")
        scan = scan_journal(data, path)
        if not scan.entries:
            raise DataFolderError(f"{path}: corrupt: it holds no entry, and a journal always does. {WAY_OUT}")
        if scan.entries[-1][2] > votes.term:
            raise DataFolderError(
                f"{path}: holds entries of term {scan.entries[-1][2]}, but quorum-state knows of {votes.term} only: "
                f"one of the two files is not of this controller, or is old. {WAY_OUT}"
            )
        journal = cls(file_system, path, votes, scan.entries, scan.offsets, scan.end)
        if scan.torn:
            logger.warning("journal_tail_cut file=%s offset=%d bytes=%d", path, scan.end, len(data) - scan.end)
        journal._file.truncate(scan.end)
        # A process that was killed between write and sync left bytes that only the page cache holds.
        journal._file.sync()
        journal._mark(scan.end)
        return journal

    @property
    def first_index(self) -> int:
        """Index of the first entry kept."""
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        """Index of the last entry, synced or not."""
        return self._entries[-1][1]

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self._entries[-1][2]

    @property
    def synced_index(self) -> int:
        """Index of the last entry that is on the disk."""
        return self.first_index + len(self._offsets) - 1

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self._end

    def entry_at(self, index: int) -> Entry:
        """The entry of this index, which must be kept."""
        return self._entries[index - self.first_index]

    def term_at(self, index: int) -> int | None:
        """The term of the entry of this index; None if it is not kept."""
        position = index - self.first_index
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    def sync(self) -> None:
        """Returns once every entry is on the disk. :raises OSError: the disk failed; nothing may be acked any more"""
        unsynced = self._entries[len(self._offsets) :]
        if not unsynced:
            return
        offsets: list[int] = []
        parts: list[bytes] = []
        end = self._end
        for position, entry in enumerate(unsynced):
            offsets.append(end)
            parts.append(encode_entry(entry, position))
            end += len(parts[-1])
        if end > self._allocated:
            self._allocated = end + self.preallocated_bytes
            parts.append(bytes(self.preallocated_bytes))
        self._file.write_at(b"".join(parts), self._end)
        self._file.sync()
        self._offsets += offsets
        self._end = end

    def mark_synced(self) -> None:
        """Notes in the file how far it was synced, so that damage there is told from a torn end. To be called now and
        then: not synced itself, after a power loss it may be an older note, which says less but nothing wrong."""
        if self._marked != self._end:
            self._mark(self._end)

    def replace_all(self, entries: Iterable[Entry]) -> None:
        """Takes these entries in place of all it holds; a crash leaves the old ones or the new ones."""
        kept = list(entries)
        invariant(bool(kept), "a journal holds at least one entry")
        data, offsets = encode_file(kept)
        self._file_system.replace(self._path, data)
        self._file.close()
        self._file = self._file_system.open(self._path)
        self._entries, self._offsets = kept, offsets
        self._end = self._allocated = self._marked = len(data)

    def _mark(self, offset: int) -> None:
        self._file.write_at(encode_synced_end(offset), SYNCED_END_AT)
        self._marked = offset

    # What pysyncobj calls. Positions count from the first entry kept.

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Appends an entry; not durable before `sync`."""
        invariant(idx == self.last_index + 1, f"entry {idx} appended after {self.last_index}")
        invariant(term >= self.last_term, f"entry of term {term} appended after one of term {self.last_term}")
        self._entries.append((command, idx, term))

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        """Cuts off the end, durably: what takes its place is of another leader."""
        self.sync()
        if entryFrom >= len(self._entries):
            return
        end = self._offsets[entryFrom]
        self._mark(end)
        self._file.sync()  # before the cut, or a crash between the two would look like damage
        self._file.truncate(end)
        self._file.sync()
        del self._entries[entryFrom:], self._offsets[entryFrom:]
        self._end = self._allocated = end

    def deleteEntriesTo(self, entryTo: int) -> None:
        """Drops the beginning, which a snapshot covers."""
        if entryTo > 0:
            self.replace_all(self._entries[entryTo:])

    def clear(self) -> None:
        """Never: an empty journal is what a wiped node has; `replace_all` does both steps at once."""
        invariant(False, "a journal is never cleared")

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        try:
            self.mark_synced()
        finally:
            self._file.close()

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Not stored: Raft learns it anew. Nothing counts as committed here before it is on this disk as well."""
        if raftCommitIndex > self.synced_index:
            self.sync()

    def getRaftCommitIndex(self) -> int:
        """What is committed for sure: what a snapshot covered, or the entry all journals begin with."""
        return self.first_index

    def setCurrentTerm(self, term: int, votedForNodeId: NodeId | None) -> None:
        """On the disk when this returns."""
        self._votes.store(term, votedForNodeId)

    def getCurrentTerm(self) -> int:
        return self._votes.term

    def getVotedForNodeId(self) -> NodeId | None:
        return self._votes.voted_for

    def onOneSecondTimer(self) -> None:
        """Nothing is put off."""
