"""What each process holds, second by second: memory, descriptors, threads, tasks, objects. Reads /proc.

Nodes are asked for their tasks and objects with SIGUSR1 and answer in their log; clients tell theirs themselves. A node
that is started anew begins a new life: a list of points of its own.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from soak.trend import Point

INTERVAL_S: Final = 2.0
_CENSUS: Final = re.compile(rb" census tasks=(\d+) blocks=(\d+) kinds=(\S*)")
_MEMORY: Final = re.compile(rb"^(Rss|Anonymous): +(\d+) kB", re.MULTILINE)
_PROCESSOR_TICKS: Final = os.sysconf("SC_CLK_TCK")
_TELLS_WAITING: Final = Path("/proc/self/schedstat").exists()  # not every kernel is built so

MEMORY: Final = "resident memory"
ANONYMOUS: Final = "anonymous memory"
DESCRIPTORS: Final = "file descriptors"
THREADS: Final = "threads"
TASKS: Final = "tasks"
BLOCKS: Final = "allocated blocks"
PROCESSOR: Final = "processor"
WAITING: Final = "waiting for a processor"
BEHIND: Final = "records behind"

METRICS: Final[Mapping[str, str]] = {
    MEMORY: "bytes",
    ANONYMOUS: "bytes",
    BLOCKS: "",
    DESCRIPTORS: "",
    TASKS: "",
    THREADS: "",
    BEHIND: "",
    PROCESSOR: "s",
    WAITING: "s",
}
"""What is recorded, and its unit. Processor time grows by its nature, as does what a process' first thread, which has a
node's event loop, spent ready to run on a machine that was busy with others; how far readers are behind what was acked
depends on who else uses the machine. All else is not to grow."""


@dataclass
class Life:
    """One process from its start to its end, as far as it was watched."""

    pid: int
    series: dict[str, list[Point]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Watched:
    """A node or a client over the whole run, under one name."""

    name: str
    pid: Callable[[], int | None]
    log: Path | None  # a node's; its census is read from there
    lives: list[Life] = field(default_factory=list)
    kinds: str = ""  # of tasks, as the last census had them
    _read: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)  # a client's words come in another thread

    def sample(self, now_s: float) -> None:
        """Takes down what /proc says now, and asks for a census; a process that is gone is passed over."""
        pid = self.pid()
        if pid is None:
            return
        try:
            found = _of_process(pid)
            if self.log is not None:
                self._read_census(now_s)
                if _listens(pid):
                    os.kill(pid, signal.SIGUSR1)
        except (FileNotFoundError, ProcessLookupError):
            return
        life = self._life(pid)
        for metric, value in found.items():
            life.series[metric].append((now_s, value))

    def told(self, now_s: float, pid: int, values: Mapping[str, float]) -> None:
        """What the process says of itself."""
        life = self._life(pid)
        for metric, value in values.items():
            life.series[metric].append((now_s, value))

    def _life(self, pid: int) -> Life:
        with self._lock:
            if not self.lives or self.lives[-1].pid != pid:
                self.lives.append(Life(pid))
            return self.lives[-1]

    def _read_census(self, now_s: float) -> None:
        assert self.log is not None
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        for tasks, blocks, kinds in _CENSUS.findall(text[:whole])[-1:]:
            self.kinds = kinds.decode()
            if self.lives:
                self.told(now_s, self.lives[-1].pid, {TASKS: int(tasks), BLOCKS: int(blocks)})


def _listens(pid: int) -> bool:
    """True if SIGUSR1 is caught: a node that has only begun to start, or is about to end, would die of it."""
    caught = int(Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << (signal.SIGUSR1 - 1))


def _of_process(pid: int) -> dict[str, float]:
    """:raises FileNotFoundError, ProcessLookupError: it has ended."""
    folder = Path(f"/proc/{pid}")
    memory = {name: 1024 * int(size) for name, size in _MEMORY.findall((folder / "smaps_rollup").read_bytes())}
    if not memory:
        raise ProcessLookupError(pid)  # a zombie has no memory
    waited = {WAITING: int((folder / "schedstat").read_text().split()[1]) / 1e9} if _TELLS_WAITING else {}
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return {
        MEMORY: memory[b"Rss"],
        ANONYMOUS: memory[b"Anonymous"],
        DESCRIPTORS: len(os.listdir(folder / "fd")),
        THREADS: int(fields[17]),
        PROCESSOR: (int(fields[11]) + int(fields[12])) / _PROCESSOR_TICKS,
        **waited,
    }


class Sampler:
    """Samples all that it watches from a thread of its own; `began` is second 0."""

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}
        self.began = time.monotonic()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def watch(self, name: str, pid: Callable[[], int | None], log: Path | None = None) -> Watched:
        """From the next sample on."""
        self.watched[name] = Watched(name, pid, log)
        return self.watched[name]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(INTERVAL_S - self.now_s() % INTERVAL_S):
            for each in list(self.watched.values()):
                each.sample(self.now_s())
