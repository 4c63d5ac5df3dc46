"""One client of the workload as a program: `python -m chaos.client_program SETTINGS.json`, on the clients' host.

It works with one library, in a few threads, until SIGTERM; then each thread ends its operation, closes its client, and
the program exits with 0. Told to read, it reads every partition from the beginning to a given end, and exits.
Exit code 1: something broke that is no outcome of an operation; stderr says what.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from chaos.client import Client, ClientError, ClientSettings, Spot
from chaos.journal import Journal
from chaos.worker import PROCESSES_PER_WORKER, Worker
from harness.history import Operation, Polled, Position

KLAMM: Final = "klamm"
CONFLUENT: Final = "confluent-kafka"
KAFKA_PYTHON: Final = "kafka-python"
LIBRARIES: Final = (KLAMM, CONFLUENT, KAFKA_PYTHON)
_COMPRESSIONS: Final = (None, "gzip", "lz4", "zstd")
_BATCH_BYTES: Final = (200, 16_384)
_MIXED_GROUP: Final = "everybody"
_MIXED_SHARE: Final = 0.3
_CONSUMER_PROTOCOL_SHARE: Final = 0.3
READ_SECONDS_MAX: Final = 120.0


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """What a client program is told, by a file."""

    library: str
    servers: str
    folder: str  # for the journals
    first_process: int  # of the history; each thread has PROCESSES_PER_WORKER from there on
    workers: int
    partitions: Sequence[tuple[str, int]]
    seed: int
    pace_s: float
    read_to: Sequence[int] | None = None  # end offsets by partition: read all from the beginning, do nothing else

    def journal_path(self, worker: int) -> Path:
        """Where a thread writes what it does."""
        return Path(self.folder) / f"{self.first_process + worker * PROCESSES_PER_WORKER}.journal"

    def write(self, path: Path) -> None:
        """For the program to load."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ProgramSettings:
        """As `write` wrote them."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values["partitions"] = [(topic, partition) for topic, partition in values["partitions"]]
        return cls(**values)


def main() -> int:
    """Runs the program; returns the exit code."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # says where each thread is, when it does not end
    settings = ProgramSettings.load(Path(sys.argv[1]))
    if settings.read_to is not None:
        return _read(settings, settings.read_to)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    failures: list[str] = []
    threads = [
        threading.Thread(target=_run_worker, args=(settings, number, stopping, failures), name=f"worker-{number}")
        for number in range(settings.workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # with a time-out, so that signals are handled meanwhile
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _run_worker(settings: ProgramSettings, number: int, stopping: threading.Event, failures: list[str]) -> None:
    random = Random(f"{settings.seed}-{settings.first_process}-{number}")
    journal = Journal(settings.journal_path(number))
    connect, group = _choose_client(settings, random)
    worker = Worker(
        first_process=settings.first_process + number * PROCESSES_PER_WORKER,
        library=settings.library,
        group=group,
        partitions=settings.partitions,
        journal=journal,
        connect=connect,
        random=random,
        pace_s=settings.pace_s,
        stopping=stopping,
    )
    try:
        worker.run()
    except ClientError as error:
        failures.append(f"{settings.library} did not close in good order: {error}")
    except Exception as error:
        failures.append(f"{settings.library}: {type(error).__name__}: {error}")
        raise  # the traceback goes to stderr; the other threads go on
    finally:
        journal.close()


def _choose_client(settings: ProgramSettings, random: Random) -> tuple[Callable[[str], Client], str]:
    compression, batch_bytes = random.choice(_COMPRESSIONS), random.choice(_BATCH_BYTES)
    consumer_protocol = settings.library == CONFLUENT and random.random() < _CONSUMER_PROTOCOL_SHARE
    mixed = not consumer_protocol and random.random() < _MIXED_SHARE
    group = f"{settings.library}-kip-848" if consumer_protocol else _MIXED_GROUP if mixed else settings.library

    def connect(client_id: str) -> Client:
        client_settings = ClientSettings(settings.servers, group, client_id, compression, batch_bytes)
        return new_client(settings.library, client_settings, consumer_protocol=consumer_protocol)

    return connect, group


def new_client(library: str, settings: ClientSettings, *, consumer_protocol: bool = False) -> Client:
    """A client of the library. :raises ClientError: it wants an answer at once, and gets none."""
    # Imported here: each program needs one of them.
    if library == KLAMM:
        from chaos.client_klamm import KlammClient

        return KlammClient(settings)
    if library == CONFLUENT:
        from chaos.client_confluent import ConfluentClient

        return ConfluentClient(settings, group_protocol="consumer" if consumer_protocol else "classic")
    from chaos.client_kafka_python import KafkaPythonClient

    return KafkaPythonClient(settings)


def _read(settings: ProgramSettings, read_to: Sequence[int]) -> int:
    """Reads all partitions from offset 0; one process, one `final-poll` for each poll that gave something."""
    process, library = settings.first_process, settings.library
    numbers: dict[Spot, int] = {spot: number for number, spot in enumerate(settings.partitions)}
    journal = Journal(settings.journal_path(0))
    client = new_client(library, ClientSettings(settings.servers, f"{library}-final", f"chaos-final-{library}"))
    now = time.monotonic_ns()
    start = tuple(Position(number, 0) for number in numbers.values())
    client.assign(dict.fromkeys(numbers, 0))
    journal.end(Operation(process, library, "assign", now, time.monotonic_ns(), "ok", positions=start))
    missing = {number: end for number, end in enumerate(read_to) if end > 0}
    deadline = time.monotonic() + READ_SECONDS_MAX
    while missing and time.monotonic() < deadline:
        now = time.monotonic_ns()
        result = client.poll()
        polls = tuple(Polled(numbers[r.spot], r.offset, int(r.value)) for r in result.records)
        if polls or result.error is not None:
            ended = time.monotonic_ns()
            outcome, error = result.outcome, result.error
            journal.end(Operation(process, library, "final-poll", now, ended, outcome, polls=polls, error=error))
        for polled in polls:
            if polled.offset + 1 >= missing.get(polled.partition, 1 << 62):
                del missing[polled.partition]
        if polls:
            deadline = time.monotonic() + READ_SECONDS_MAX  # it is silence that is limited, not length
    client.close()
    journal.close()
    for number, end in missing.items():
        print(f"{library} did not read {settings.partitions[number]} to its end offset {end}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
