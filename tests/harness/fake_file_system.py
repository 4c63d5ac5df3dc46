"""A disk in memory with a page cache, which can fail in every way that a real one can.

`crash` is kill -9: what was written stays. `power_cut` is worse: what was not synced may be gone, torn or there, and
so may names in folders that were not synced.
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from random import Random

from klamm.broker.log.file_system import FileStatus
from klamm.proto.record_batch import Buffer


class Killed(BaseException):
    """The process dies here; nobody may catch it but the test."""


@dataclass(eq=False)
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    modified_ms: int = 0
    locked: bool = False


@dataclass
class _Fault:
    operation: str
    error: int
    path_end: str
    skip: int


class FakeFileSystem:
    """See `klamm.broker.log.file_system.FileSystem`."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self.folders: set[str] = {"/"}
        self.now_ms = 0
        self.capacity: int | None = None
        self.bytes_until_kill: int | None = None
        self.changes_until_kill: int | None = None  # calls that change something on the disk
        self.syncs = 0
        self.sync_gate = threading.Event()  # cleared: syncs of segments wait for it
        self.sync_gate.set()
        self.sync_began = threading.Event()
        self._durable_names: dict[str, dict[str, _File]] = {}
        self._durable_folders: set[str] = {"/"}
        self._faults: list[_Fault] = []
        self._open: dict[int, tuple[_File, str]] = {}
        self._next = 100
        self._boots = 1

    # -- faults

    def fail_next(self, operation: str, error: int = errno.EIO, *, path_end: str = "", skip: int = 0) -> None:
        """The next call of `operation` (after `skip` more) on a path that ends so raises this error."""
        self._faults.append(_Fault(operation, error, path_end, skip))

    def _maybe_fail(self, operation: str, path: str) -> None:
        for fault in self._faults:
            if fault.operation == operation and path.endswith(fault.path_end):
                if fault.skip:
                    fault.skip -= 1
                    continue
                self._faults.remove(fault)
                raise OSError(fault.error, os.strerror(fault.error), path)

    def heal(self) -> None:
        """Faults that were not met yet are taken back."""
        self._faults.clear()
        self.capacity = None

    def flip_bit(self, path: str, bit: int) -> None:
        """The disk decays."""
        self.files[path].data[bit // 8] ^= 1 << bit % 8

    def copy(self) -> FakeFileSystem:
        """The same files and folders, all durable, on another disk."""
        other = FakeFileSystem()
        other.folders = set(self.folders)
        for path, file in self.files.items():
            other.files[path] = _File(bytearray(file.data), bytes(file.data), file.modified_ms)
        for folder in self.folders:
            other.sync_folder(folder)
        return other

    def crash(self) -> None:
        """The process is gone: no descriptors, no locks. What it wrote is there."""
        self._open.clear()
        for file in self.files.values():
            file.locked = False
        self.bytes_until_kill = self.changes_until_kill = None

    def _step(self) -> None:
        if self.changes_until_kill is not None:
            if not self.changes_until_kill:
                raise Killed
            self.changes_until_kill -= 1

    def power_cut(self, random: Random) -> None:
        """The machine is gone: unsynced bytes and names survive in part, or not."""
        self.crash()
        self._boots += 1
        # In the order of their names: that of a set of strings is another in every process.
        folders = sorted(self.folders)
        self.folders = {path for path in folders if path in self._durable_folders or random.random() < 0.5}
        for folder in sorted(self.folders):
            names = {path: file for path, file in self.files.items() if _parent(path) == folder}
            durable = self._durable_names.get(folder, {})
            survivors = {
                path: names.get(path, durable.get(path)) if random.random() < 0.5 else durable.get(path)
                for path in sorted({*names, *durable})
            }
            for path in names:
                del self.files[path]
            self.files.update({path: file for path, file in survivors.items() if file is not None})
        self.files = {path: file for path, file in self.files.items() if _parent(path) in self.folders}
        for file in self.files.values():
            if random.random() < 0.7 and bytes(file.data) != file.durable:
                common = _common_length(file.data, file.durable)
                kept = random.randint(common, max(len(file.data), common))
                file.data = bytearray(file.durable if random.random() < 0.3 else file.data[:kept])
            file.durable = bytes(file.data)

    def boot_id(self) -> str:
        return f"boot {self._boots}"

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def used(self) -> int:
        return sum(len(file.data) for file in self.files.values())

    # -- the file system's calls

    def open(self, path: str, *, create: bool = False) -> int:
        self._maybe_fail("open", path)
        if path not in self.files:
            if create:
                self._step()
            if not create or _parent(path) not in self.folders:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.files[path] = _File(modified_ms=self.now_ms)
        self._next += 1
        self._open[self._next] = (self.files[path], path)
        return self._next

    def close(self, descriptor: int, /) -> None:
        file, _ = self._open.pop(descriptor)
        file.locked = False

    def pread(self, descriptor: int, size: int, position: int, /) -> bytes:
        file, path = self._open[descriptor]
        self._maybe_fail("pread", path)
        return bytes(file.data[position : position + size])

    def pwrite(self, descriptor: int, data: Buffer, position: int, /) -> int:
        file, path = self._open[descriptor]
        self._maybe_fail("pwrite", path)
        self._step()
        content = bytes(data)
        if self.capacity is not None:
            room = max(self.capacity - self.used, 0)
            if content and not room:
                raise OSError(errno.ENOSPC, "disk full", path)
            content = content[:room]
        killed = self.bytes_until_kill is not None and len(content) > self.bytes_until_kill
        if self.bytes_until_kill is not None:
            content = content[: self.bytes_until_kill]
            self.bytes_until_kill -= len(content)
        file.data.extend(bytes(max(position - len(file.data), 0)))
        file.data[position : position + len(content)] = content
        file.modified_ms = self.now_ms
        if killed:
            raise Killed
        return len(content)

    def truncate(self, descriptor: int, size: int, /) -> None:
        file, path = self._open[descriptor]
        self._maybe_fail("truncate", path)
        self._step()
        file.data.extend(bytes(max(size - len(file.data), 0)))
        del file.data[size:]
        file.modified_ms = self.now_ms

    def sync(self, descriptor: int, /) -> None:
        file, path = self._open[descriptor]
        content = bytes(file.data)
        if path.endswith((".log", ".log.cleaned")):
            self.sync_began.set()
            assert self.sync_gate.wait(30)
        self._maybe_fail("sync", path)
        self._step()
        self.syncs += 1
        file.durable = content

    def sync_folder(self, path: str) -> None:
        self._maybe_fail("sync_folder", path)
        self._step()
        if path not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        start = path.rstrip("/") + "/"
        self._durable_names[path] = {
            name: file for name, file in self.files.items() if name.startswith(start) and "/" not in name[len(start) :]
        }
        self._durable_folders |= {folder for folder in self.folders if folder == path or _parent(folder) == path}

    def status(self, path: str) -> FileStatus | None:
        file = self.files.get(path)
        return None if file is None else FileStatus(len(file.data), file.modified_ms)

    def set_modified(self, path: str, modified_ms: int) -> None:
        self._step()
        self.files[path].modified_ms = modified_ms

    def is_folder(self, path: str) -> bool:
        return path in self.folders

    def list_folder(self, path: str) -> list[str]:
        names = (*self.files, *sorted(self.folders))
        return [name.rpartition("/")[2] for name in names if _parent(name) == path != name]

    def make_folder(self, path: str) -> None:
        self._maybe_fail("make_folder", path)
        while path not in self.folders:
            self.folders.add(path)
            path = _parent(path)

    def replace(self, source: str, target: str, /) -> None:
        self._maybe_fail("replace", source)
        self._step()
        if source in self.folders:
            self.folders = {_moved(path, source, target) for path in self.folders}
            self.files = {_moved(path, source, target): file for path, file in self.files.items()}
            return
        self.files[target] = self.files.pop(source)

    def remove(self, path: str, /) -> None:
        self._maybe_fail("remove", path)
        self._step()
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        del self.files[path]

    def remove_tree(self, path: str) -> None:
        self._maybe_fail("remove_tree", path)
        self.folders = {each for each in self.folders if not (each + "/").startswith(path + "/")}
        self.files = {each: file for each, file in self.files.items() if not each.startswith(path + "/")}

    def lock(self, path: str) -> int:
        descriptor = self.open(path, create=True)
        file, _ = self._open[descriptor]
        if file.locked:
            del self._open[descriptor]
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        file.locked = True
        return descriptor


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _moved(path: str, source: str, target: str) -> str:
    return target + path[len(source) :] if (path + "/").startswith(source + "/") else path


def _common_length(one: Buffer, other: Buffer) -> int:
    pairs = enumerate(zip(bytes(one), bytes(other), strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
