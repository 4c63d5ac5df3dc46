"""The term this node is in and whom it voted for in it: what Raft must never forget.

Kafka's name for the file, `quorum-state`. It is replaced as a whole and synced before anything that depends on it
leaves the node; a file that is torn or missing stops the node, for a node that forgot a vote may vote twice.
"""

from __future__ import annotations

from pathlib import Path

from ..proto.identifiers import NodeId
from .checked_properties import decode_properties, encode_properties
from .file_system import FileSystem
from .raft_contract import DataFolderError
from .way_out import WAY_OUT


class VoteStore:
    """Term and vote, on disk."""

    FILE_NAME = "quorum-state"

    def __init__(self, file_system: FileSystem, path: Path, term: int, voted_for: NodeId | None) -> None:
        self._file_system = file_system
        self._path = path
        self.term = term
        self.voted_for = voted_for

    @classmethod
    def create(cls, file_system: FileSystem, folder: Path) -> VoteStore:
        """A node's first: term 0, no vote."""
        store = cls(file_system, folder / cls.FILE_NAME, 0, None)
        store.store(0, None)
        return store

    @classmethod
    def open(cls, file_system: FileSystem, folder: Path) -> VoteStore:
        """What was stored last. :raises DataFolderError: missing, torn or corrupt"""
        path = folder / cls.FILE_NAME
        data = file_system.read(path)
        if data is None:
            raise DataFolderError(f"{path}: missing; without it this controller may vote twice. {WAY_OUT}")
        properties = decode_properties(data, path, WAY_OUT)
        try:
            voted_for = properties["voted.for"]
            return cls(file_system, path, int(properties["term"]), NodeId(int(voted_for)) if voted_for else None)
        except (KeyError, ValueError) as error:
            raise DataFolderError(f"{path}: not a quorum-state file ({error!r}). {WAY_OUT}") from None

    def store(self, term: int, voted_for: NodeId | None) -> None:
        """Returns once it is on the disk."""
        properties = {
            "version": "1",
            "term": str(term),
            "voted.for": "" if voted_for is None else str(voted_for),
        }
        self._file_system.replace(self._path, encode_properties(properties))
        self.term = term
        self.voted_for = voted_for
