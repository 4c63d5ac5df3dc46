"""The seam between the log and the disk: plain calls on integer descriptors, so that a test can put a faulty disk
below.

Nothing above this file calls `os`. Paths are strings: at ten thousand partitions pathlib shows in a profile.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import Final, NamedTuple, Protocol

from ...proto.record_batch import Buffer

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class FileStatus(NamedTuple):
    """Size and time of the last change of a file."""

    size: int
    modified_ms: int


class FileSystem(Protocol):
    """What the log asks of a disk. Every call raises OSError as the system does."""

    def open(self, path: str, *, create: bool = False) -> int:
        """A descriptor for reading and writing; with `create` the file is made if it is not there."""

    def close(self, descriptor: int, /) -> None: ...

    def pread(self, descriptor: int, size: int, position: int, /) -> bytes: ...

    def pwrite(self, descriptor: int, data: Buffer, position: int, /) -> int:
        """Bytes written, which may be fewer than were given."""

    def truncate(self, descriptor: int, size: int, /) -> None: ...

    def sync(self, descriptor: int, /) -> None:
        """Returns once the file's data and size are on the disk."""

    def sync_folder(self, path: str) -> None:
        """Returns once the names in the folder are on the disk."""

    def status(self, path: str) -> FileStatus | None:
        """None if there is no such file."""

    def set_modified(self, path: str, modified_ms: int) -> None:
        """Sets the time of a file's last change."""

    def is_folder(self, path: str) -> bool: ...

    def list_folder(self, path: str) -> list[str]: ...

    def make_folder(self, path: str) -> None:
        """Makes it and its parents; one that is there is left as it is."""

    def replace(self, source: str, target: str, /) -> None:
        """Renames at one stroke, over what may be there."""

    def remove(self, path: str, /) -> None: ...

    def remove_tree(self, path: str) -> None: ...

    def lock(self, path: str) -> int:
        """A descriptor of the file, made if it is not there, which nobody else can have before it is closed.

        :raises BlockingIOError: somebody has it.
        """

    def boot_id(self) -> str | None:
        """Another one after each start of the machine; None where the system does not tell."""


class RealFileSystem:
    """The operating system's."""

    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    truncate = staticmethod(os.ftruncate)
    sync = staticmethod(getattr(os, "fdatasync", os.fsync))
    replace = staticmethod(os.replace)
    remove = staticmethod(os.remove)

    def open(self, path: str, *, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def sync_folder(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def status(self, path: str) -> FileStatus | None:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return FileStatus(found.st_size, found.st_mtime_ns // 1_000_000)

    def set_modified(self, path: str, modified_ms: int) -> None:
        os.utime(path, ns=(modified_ms * 1_000_000, modified_ms * 1_000_000))

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def list_folder(self, path: str) -> list[str]:
        return os.listdir(path)

    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path)

    def lock(self, path: str) -> int:
        descriptor = self.open(path, create=True)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel drops it with the process
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def boot_id(self) -> str | None:
        try:
            with open(_BOOT_ID, encoding="ascii") as file:
                return file.read().strip() or None
        except OSError:
            return None


def write_all(file_system: FileSystem, descriptor: int, data: Buffer, position: int) -> None:
    """Writes every byte, as often as the system takes fewer than it was given."""
    view = memoryview(data)
    while len(view):
        written = file_system.pwrite(descriptor, view, position)
        view = view[written:]
        position += written


def read_file(file_system: FileSystem, path: str) -> bytes:
    """The whole file. :raises FileNotFoundError: there is none."""
    descriptor = file_system.open(path)
    try:
        parts = []
        position = 0
        while part := file_system.pread(descriptor, 1 << 20, position):
            parts.append(part)
            position += len(part)
        return b"".join(parts)
    finally:
        file_system.close(descriptor)


def write_file_atomically(file_system: FileSystem, path: str, data: bytes, *, sync: bool = True) -> None:
    """Readers see the old content or the new, also after a crash: written beside, synced, renamed.

    Without `sync` that holds for a crash of the process alone; somebody has to sync the file later.
    """
    beside = path + ".tmp"
    descriptor = file_system.open(beside, create=True)
    try:
        file_system.truncate(descriptor, 0)
        write_all(file_system, descriptor, data, 0)
        if sync:
            file_system.sync(descriptor)
    finally:
        file_system.close(descriptor)
    file_system.replace(beside, path)


def sync_file(file_system: FileSystem, path: str) -> None:
    """Returns once the file's content is on the disk. :raises FileNotFoundError: there is none."""
    descriptor = file_system.open(path)
    try:
        file_system.sync(descriptor)
    finally:
        file_system.close(descriptor)


def remove_if_present(file_system: FileSystem, path: str) -> None:
    """Removes a file that may be gone already."""
    try:
        file_system.remove(path)
    except FileNotFoundError:
        return
