"""Runs rows against Klamm and Apache Kafka, one after the other, round after round."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import psutil
from confluent_kafka import KafkaException
from harness.kafka_tools import NoKafkaToolsError
from klamm.deploy.errors import DeployError

from . import loads
from .apache_kafka import KafkaNodeError
from .environment import environment
from .results import RowResult
from .row import Row, Work
from .rows_cost import resident_memory
from .systems import SYSTEMS, Cluster
from .table import in_run_order

IDLE_SECONDS: Final = 5.0
MEMORY: Final = "7"
FAILURES: Final = (
    loads.ClientError,
    KafkaException,
    KafkaNodeError,
    DeployError,
    AssertionError,
    OSError,
    psutil.Error,
)
"""What makes a row fail without ending the comparison."""


class Driver:
    """Keeps what it measures in `results`, by the key of the row, and calls `on_round` after each round."""

    def __init__(self, keys: Iterable[str], scale: float, systems: Sequence[str] = tuple(SYSTEMS)) -> None:
        self._rows = in_run_order(set(keys))
        self._scale = scale
        self._systems = systems
        now = datetime.now(UTC).isoformat(timespec="seconds")
        machine = environment()
        self.results = {row.key: RowResult(now, scale, machine) for row in self._rows}

    def run(self, rounds: int | None, on_round: Callable[[], None]) -> None:
        """So many rounds of all rows, or as many as each has by default."""
        _allow_many_files()
        rounds_of = {row.key: rounds or row.rounds for row in self._rows}
        rounds_max = max(rounds_of.values())
        for number in range(rounds_max):
            rows = [row for row in self._rows if number < rounds_of[row.key]]
            for group in _groups(rows):
                for system in self._systems:
                    _tell(f"round {number + 1} of {rounds_max}: {system}, rows {' '.join(row.key for row in group)}")
                    self._run_group(system, group)
            for row in rows:
                self.results[row.key].rounds += 1
            on_round()

    @property
    def failed(self) -> bool:
        """True if a row went wrong anywhere."""
        return any(result.errors for result in self.results.values())

    def _run_group(self, system: str, group: Sequence[Row]) -> None:
        """A failed row may leave a broken cluster: those after it get another."""
        left = list(group)
        while left:
            try:
                cluster = SYSTEMS[system](left[0].brokers)
            except NoKafkaToolsError as error:
                for row in left:
                    self.results[row.key].missing[system] = str(error)
                return
            try:
                left = self._run_on(cluster, left)
            finally:
                cluster.close()

    def _run_on(self, cluster: Cluster, rows: list[Row]) -> list[Row]:
        """Returns those that are still to run, after one that failed."""
        work = Work(cluster, self._scale)
        try:
            self._start(work, any(row.key == MEMORY for row in rows))
        except FAILURES as error:
            for row in rows:
                self._fail(row, cluster, error)
            return []
        is_warm = False
        for number, row in enumerate(rows):
            try:
                if row.needs_warmth and not is_warm:
                    work.row = "warm-up"
                    work.warm_up()
                    is_warm = True
                self._run_row(row, work)
            except FAILURES as error:
                self._fail(row, cluster, error)
                return rows[number + 1 :]
        return []

    def _start(self, work: Work, measure_memory: bool) -> None:
        cluster, began = work.cluster, time.monotonic()
        cluster.start()
        loads.first_record(cluster.servers, "first", len(cluster.addresses))
        work.start_seconds = time.monotonic() - began
        _tell(f"{cluster.name} took its first record after {work.start_seconds:.2f} s")
        if measure_memory:
            time.sleep(IDLE_SECONDS)
            work.memory_at_start = resident_memory(cluster.pids())

    def _run_row(self, row: Row, work: Work) -> None:
        """Its samples count once it has done all that it checks."""
        work.row, began, samples = row.key, time.monotonic(), []
        for sample in row.run(work):
            work.note(f"{sample.figure}: {sample.value:,.2f} {row.unit}")
            samples.append(sample)
        if not row.alone:
            work.delete_topics()
        result = self.results[row.key]
        result.seconds += time.monotonic() - began
        for sample in samples:
            result.add(sample.figure, sample.side or work.cluster.name, sample.value)

    def _fail(self, row: Row, cluster: Cluster, error: BaseException) -> None:
        told = f"{cluster.name}: {type(error).__name__}: {error}"
        _tell(f"row {row.key} FAILED: {told}")
        self.results[row.key].errors.append(told)


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that may share a cluster."""
    shared: dict[int, list[Row]] = {}
    for row in rows:
        if not row.alone:
            shared.setdefault(row.brokers, []).append(row)
    return [*shared.values(), *([row] for row in rows if row.alone)]


def _allow_many_files() -> None:
    """The nodes inherit it: thousands of partitions have thousands of files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
