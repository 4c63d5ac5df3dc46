"""The clients of the workload as processes on their own host: start, kill one, stop all, gather what they did."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from chaos.client import ANSWER_SECONDS_MAX, Spot
from chaos.client_program import KLAMM, LIBRARIES, ProgramSettings
from chaos.journal import read_journal
from chaos.network import Network, python_on
from chaos.worker import PROCESSES_PER_WORKER
from harness.history import Operation

HOST: Final = "clients"
PROGRAMS_PER_LIBRARY: Final = 1
_STOP_SECONDS_MAX: Final = ANSWER_SECONDS_MAX + 60.0
_READ_SECONDS_MAX: Final = 600.0
_READ_RECORDS_PER_SECOND: Final = 1_000  # beyond that time: of the slowest library, on a busy machine
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What all clients have in common."""

    folder: Path
    kafka_servers: str
    grpc_servers: str
    partitions: Sequence[Spot]
    seed: int
    workers: int
    pace_s: float
    environment: Mapping[str, str]


@dataclass(slots=True)
class _Program:
    settings: ProgramSettings
    popen: subprocess.Popen[bytes]
    errors: Path
    gone_ns: int | None = None  # when it was killed


class Fleet:
    """All client programs of a campaign, those that are gone included. `kill_one` may be called by any thread."""

    def __init__(self, network: Network, settings: FleetSettings) -> None:
        self._network = network
        self._settings = settings
        self._programs: list[_Program] = []
        self._lock = threading.Lock()
        self._next_process = 0
        settings.folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """One program of each library."""
        with self._lock:
            for library in LIBRARIES * PROGRAMS_PER_LIBRARY:
                self._start(library, None)

    def kill_one(self, random: Random) -> str:
        """kill -9 of a program; another of its library takes its place. Says which it was."""
        with self._lock:
            alive = [program for program in self._programs if program.popen.poll() is None]
            victim = random.choice(alive)
            self._kill(victim)
            self._start(victim.settings.library, None)
            return f"{victim.settings.library}, processes from {victim.settings.first_process}"

    def stop(self) -> list[str]:
        """Lets every client end what it does; returns what went wrong, in words."""
        with self._lock:
            running = [program for program in self._programs if program.gone_ns is None]
            for program in running:
                if program.popen.poll() is None:
                    program.popen.terminate()
            deadline = time.monotonic() + _STOP_SECONDS_MAX
            return [trouble for program in running for trouble in self._await_end(program, deadline)]

    def read_all(self, end_offsets: Sequence[int]) -> list[str]:
        """Each library reads every partition to its end, all at once; returns what went wrong, in words."""
        with self._lock:
            readers = [self._start(library, end_offsets) for library in LIBRARIES]
            deadline = time.monotonic() + _READ_SECONDS_MAX + sum(end_offsets) / _READ_RECORDS_PER_SECOND
            return [trouble for reader in readers for trouble in self._await_end(reader, deadline)]

    def operations(self) -> Iterator[Operation]:
        """Everything that any client did; each process' operations in their order."""
        for program in self._programs:
            for worker in range(program.settings.workers):
                path = program.settings.journal_path(worker)
                if path.exists():
                    yield from read_journal(path, program.gone_ns)

    def new_process(self) -> int:
        """The number of a process of the history that no client program has."""
        with self._lock:
            self._next_process += 1
            return self._next_process - 1

    def close(self) -> None:
        """Ends whatever still runs."""
        with self._lock:
            for program in self._programs:
                if program.popen.poll() is None:
                    self._kill(program)

    def _start(self, library: str, read_to: Sequence[int] | None) -> _Program:
        base = self._settings
        workers = base.workers if read_to is None else 1
        settings = ProgramSettings(
            library=library,
            servers=base.grpc_servers if library == KLAMM else base.kafka_servers,
            folder=str(base.folder),
            first_process=self._next_process,
            workers=workers,
            partitions=list(base.partitions),
            seed=base.seed,
            pace_s=base.pace_s,
            read_to=read_to,
        )
        self._next_process += workers * PROCESSES_PER_WORKER
        stem = f"{library}-{settings.first_process}"
        path, errors = base.folder / f"{stem}.json", base.folder / f"{stem}.stderr"
        settings.write(path)
        with errors.open("wb") as stderr:
            popen = subprocess.Popen(
                python_on(self._network, HOST, "-m", "chaos.client_program", str(path)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, **base.environment},
                start_new_session=True,
            )
        self._programs.append(_Program(settings, popen, errors))
        return self._programs[-1]

    def _kill(self, program: _Program) -> None:
        program.popen.kill()
        program.popen.wait()
        program.gone_ns = time.monotonic_ns()

    def _await_end(self, program: _Program, deadline: float) -> list[str]:
        who = f"{program.settings.library} client from process {program.settings.first_process}"
        while (code := program.popen.poll()) is None:
            if time.monotonic() >= deadline:
                program.popen.send_signal(signal.SIGUSR1)  # it writes down where its threads are
                time.sleep(1.0)
                self._kill(program)
                return [f"{who} did not end and was killed; see {program.errors}"]
            time.sleep(_POLL_SECONDS)
        if code != 0:
            # What it was at when it broke has no end in its journal.
            program.gone_ns = time.monotonic_ns()
            words = program.errors.read_text(encoding="utf-8", errors="replace").strip()
            return [f"{who} ended with exit code {code}: {words[-1000:]}"]
        return []
