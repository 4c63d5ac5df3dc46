"""The few things the quorum's files need of a file system, so that a test can stand in for the disk.

Two ways to write: `replace` swaps in a whole new file, and after a crash either the old or the new one is there;
`JournalFile` is written in place, and nothing of it counts before `sync` has returned.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

from .raft_contract import DataFolderError


class JournalFile(Protocol):
    """A file that is written at its end and cut."""

    def write_at(self, data: bytes, offset: int) -> None:
        """Writes all of `data`; not durable before `sync`."""

    def truncate(self, size: int) -> None:
        """Cuts the file; not durable before `sync`."""

    def sync(self) -> None:
        """Returns once all that was written is on the disk."""

    def close(self) -> None:
        """Gives the file back; syncs nothing."""


class FileSystem(Protocol):
    """Files of one data folder."""

    def read(self, path: Path) -> bytes | None:
        """The whole file; None if there is none."""

    def replace(self, path: Path, data: bytes) -> None:
        """Durable and atomic: a new file, fsync, rename over the old one, fsync of the folder."""

    def open(self, path: Path) -> JournalFile:
        """Opens a file that is there."""

    def names(self, folder: Path) -> list[str]:
        """What the folder holds; none if there is no folder."""

    def move(self, source: Path, target: Path) -> None:
        """Renames, durably; makes the target's folder."""

    def lock(self, folder: Path) -> Lock:
        """Takes the folder for this process. :raises DataFolderError: another process has it"""


class Lock(Protocol):
    """A folder that is taken until `release`."""

    def release(self) -> None:
        """Gives the folder back."""


class PosixFile:
    """A `JournalFile` on the disk."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write_at(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class PosixFileSystem:
    """A `FileSystem` on the disk."""

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _sync_folder(path.parent)

    def open(self, path: Path) -> JournalFile:
        return PosixFile(path)

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def move(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        _sync_folder(target.parent)
        _sync_folder(source.parent)

    def lock(self, folder: Path) -> Lock:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataFolderError(f"{folder}: another process uses this data folder; stop it first") from None
        return PosixLock(descriptor)


class PosixLock:
    """An flock: the kernel gives it back when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
