"""A disk in memory for `klamm.controller.file_system`: it can die in a write and forget what was not synced.

`kill` is what kill -9 does: what was written stays, for the kernel has it. `lose_power` is what a power cut does: of
what was written since the last sync, any sectors may be there and any may not (a sector is never half written).
`crash_after` makes an operation the last one.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from klamm.controller.file_system import JournalFile, Lock

SECTOR = 512


class DiskDiedError(BaseException):
    """The process is gone in the middle of this operation. Not an Exception: nothing may catch it on the way."""


class _File:
    def __init__(self, content: bytes) -> None:
        self.durable = bytearray(content)
        self.current = bytearray(content)
        self.unsynced: list[tuple[int, bytes] | int] = []  # (offset, data) written, or the size it was cut to

    def lose_power(self, random: Random) -> None:
        kept = bytearray(self.durable)
        for operation in self.unsynced:
            if isinstance(operation, int):
                if random.random() < 0.5:
                    break  # the folder's journal keeps cuts in order: nothing after this one is there either
                del kept[operation:]
                continue
            offset, data = operation
            while data:
                size = SECTOR - offset % SECTOR
                page, rest = data[:size], data[size:]
                if random.random() < 0.6:
                    kept.extend(bytes(max(0, offset + len(page) - len(kept))))
                    kept[offset : offset + len(page)] = page
                offset, data = offset + len(page), rest
        self.durable, self.current, self.unsynced = bytearray(kept), kept, []

    def sync(self) -> None:
        """What was done since the last sync is done to the platter too: a journal is long, and its tail short."""
        for operation in self.unsynced:
            if isinstance(operation, int):
                del self.durable[operation:]
            else:
                _write(self.durable, *operation)
        self.unsynced.clear()


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class MemoryDisk:
    """A `FileSystem` that outlives the node on it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._files: dict[Path, _File] = {}
        self.crash_after: int | None = None  # operations
        self.operations = 0

    def kill(self) -> None:
        """The process ends; the page cache stays."""
        self.crash_after = None

    def lose_power(self) -> None:
        """The machine ends."""
        self.crash_after = None
        for file in self._files.values():
            file.lose_power(self._random)

    def wipe(self) -> None:
        """An empty disk."""
        self.crash_after = None
        self._files.clear()

    def flip_byte(self, path: Path, offset: int) -> None:
        """Rot."""
        file = self._files[path]
        file.current[offset] ^= 0xFF
        file.durable, file.unsynced = bytearray(file.current), []

    def about_to_write(self) -> bool:
        """Counts an operation; True if the process dies in it."""
        self.operations += 1
        if self.crash_after is None:
            return False
        self.crash_after -= 1
        return self.crash_after < 0

    # FileSystem

    def read(self, path: Path) -> bytes | None:
        file = self._files.get(path)
        return None if file is None else bytes(file.current)

    def replace(self, path: Path, data: bytes) -> None:
        if self.about_to_write():
            if self._random.random() < 0.5:
                self._files[path] = _File(data)  # renamed, but the caller never heard
            raise DiskDiedError
        self._files[path] = _File(data)

    def open(self, path: Path) -> JournalFile:
        return _Handle(self, self._files[path], self._random)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self._files if path.parent == folder)

    def move(self, source: Path, target: Path) -> None:
        self._files[target] = self._files.pop(source)

    def lock(self, folder: Path) -> Lock:
        return _NoLock()


class _NoLock:
    def release(self) -> None:
        pass


class _Handle:
    def __init__(self, disk: MemoryDisk, file: _File, random: Random) -> None:
        self._disk = disk
        self._file = file
        self._random = random

    def write_at(self, data: bytes, offset: int) -> None:
        dies = self._disk.about_to_write()
        if dies:
            end = offset + self._random.randrange(len(data) + 1)
            data = data[: max(end - end % SECTOR - offset, 0)]
        file = self._file
        _write(file.current, offset, data)
        file.unsynced.append((offset, data))
        if dies:
            raise DiskDiedError

    def truncate(self, size: int) -> None:
        if self._disk.about_to_write():
            raise DiskDiedError
        del self._file.current[size:]
        self._file.unsynced.append(size)

    def sync(self) -> None:
        if self._disk.about_to_write():
            raise DiskDiedError
        self._file.sync()

    def close(self) -> None:
        pass
