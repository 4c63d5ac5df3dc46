"""A small disk of a broker's own, to be filled up and emptied. Memory holds it, so kill -9 costs nothing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from chaos.shell_command import ShellCommandError, run

_FILLER: Final = "filler"
_MEBIBYTE: Final = 1 << 20


class SmallDisk:
    """A tmpfs at `path`; where that cannot be mounted it is a folder, and cannot be filled."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.can_fill = False

    def mount(self) -> None:
        """Makes the disk."""
        self._path.mkdir(parents=True, exist_ok=True)
        try:
            run("mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "klamm-chaos", str(self._path))
        except ShellCommandError:
            return  # not root: the campaign says that no disk is filled
        self.can_fill = True

    def fill(self, leave_bytes: int) -> None:
        """Takes all room but so many bytes."""
        filler = os.open(self._path / _FILLER, os.O_CREAT | os.O_WRONLY)
        try:
            while (room := os.fstatvfs(filler)).f_bavail * room.f_frsize > leave_bytes:
                try:
                    os.posix_fallocate(filler, 0, room.f_bavail * room.f_frsize - leave_bytes)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    continue  # the broker has written meanwhile
                break
        finally:
            os.close(filler)

    def free(self) -> None:
        """Gives the room back."""
        (self._path / _FILLER).unlink(missing_ok=True)

    def unmount(self) -> None:
        """Takes the disk away; what is on it stays in the folder under its place."""
        if not self.can_fill:
            return
        self.free()
        kept = self._path.with_name(f"{self._path.name}-kept")
        shutil.copytree(self._path, kept, dirs_exist_ok=True)
        run("umount", "--lazy", str(self._path))
        self.can_fill = False
        self._path.rmdir()
        kept.rename(self._path)


def unmount_leftovers(folder: Path) -> None:
    """Takes away every disk that is mounted under the folder, with what is on it."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        where = line.split()[1]
        if where.startswith(f"{folder}/"):
            run("umount", "--lazy", where)
