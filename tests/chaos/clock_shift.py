"""Moves the wall clock of single nodes, by libfaketime where it is installed. Monotonic clocks go on as they do.

The library is loaded into the node's process and reads from a file how far off the clock is, again every second.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

LIBRARIES: Final = "/usr/lib/*/faketime/libfaketimeMT.so.1"
_CHECK: Final = "import time; w, m = time.time(), time.monotonic(); print(w, m)"
_FAR_S: Final = 100_000


class ClockShift:
    """The clocks of all nodes; each has a file under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = _library_that_works(folder)

    @property
    def can_shift(self) -> bool:
        """False: libfaketime is not here, or does not work with this Python."""
        return self._library is not None

    def prepare(self, nodes: Sequence[str]) -> None:
        """Sets every clock right."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for node in nodes:
            self.set(node, 0)

    def set(self, node: str, seconds: int) -> None:
        """From now on, or a second later, the node's wall clock is so far off; 0 sets it right."""
        _write(self._file(node), seconds)

    def command(self, node: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` with the node's clock."""
        if self._library is None:
            return list(command)
        # `env` comes first: `ip netns exec`, which it runs, is not troubled by a clock.
        return ["env", *(f"{key}={value}" for key, value in self._environment(node).items()), *command]

    def _environment(self, node: str) -> Mapping[str, str]:
        return environment(str(self._library), self._file(node))

    def _file(self, node: str) -> Path:
        return self._folder / node


def environment(library: str, file: Path) -> Mapping[str, str]:
    """What a process needs in its environment for the library to move its clock as the file says."""
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1",
    }


def _library_that_works(folder: Path) -> str | None:
    found = sorted(str(path) for path in Path("/").glob(LIBRARIES.removeprefix("/")))
    if not found:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "check"
    _write(file, _FAR_S)
    right = _clocks({})
    moved = _clocks(environment(found[0], file))
    if right is None or moved is None:
        return None
    wall, monotonic = moved[0] - right[0], moved[1] - right[1]
    return found[0] if _FAR_S <= wall < _FAR_S + 60 and 0 <= monotonic < 60 else None


def _clocks(extra: Mapping[str, str]) -> tuple[float, float] | None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CHECK], env=dict(extra), capture_output=True, text=True, check=False
    )
    words = done.stdout.split()
    return (float(words[0]), float(words[1])) if done.returncode == 0 and len(words) == 2 else None


def _write(file: Path, seconds: int) -> None:
    # Renamed into place: a process that reads it just now finds one number or the other.
    beside = file.with_suffix(".new")
    beside.write_text(f"{seconds:+d}\n", encoding="ascii")
    beside.replace(file)
