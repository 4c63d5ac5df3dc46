"""The order of rounds, rows and systems, and what a failure does; with clusters and rows that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from benchmarks.compare import driver as driver_module
from benchmarks.compare import loads
from benchmarks.compare.driver import Driver
from benchmarks.compare.row import Row, Sample, Work
from benchmarks.compare.systems import KAFKA, KLAMM
from harness.kafka_tools import NoKafkaToolsError


class FakeCluster:
    """Writes down what becomes of it."""

    servers = "nowhere:1"

    def __init__(self, name: str, brokers: int, log: list[str]) -> None:
        self.name, self._log = name, log
        self.addresses = {number: ("nowhere", number) for number in range(1, brokers + 1)}

    def start(self) -> None:
        self._log.append(f"{self.name}{len(self.addresses)}")

    def close(self) -> None:
        self._log.append("closed")


def row_of(key: str, brokers: int, log: list[str], *, fails_on: str | None = None, alone: bool = False) -> Row:
    def run(work: Work) -> Iterator[Sample]:
        """It does nothing."""
        log.append(key)
        yield Sample("figure", float(len(log)))
        if work.cluster.name == fails_on:
            raise loads.ClientError("on purpose")

    return Row(key, "a row", brokers, "s", None, run, alone=alone, needs_warmth=False, rounds=1 if alone else 2)


@pytest.fixture
def make_driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Row], list[str]], Driver]:
    def make(rows: list[Row], log: list[str]) -> Driver:
        systems = {name: lambda brokers, name=name: FakeCluster(name, brokers, log) for name in (KLAMM, KAFKA)}
        monkeypatch.setattr(driver_module, "SYSTEMS", systems)
        monkeypatch.setattr(driver_module, "in_run_order", lambda _: rows)
        monkeypatch.setattr(driver_module, "environment", dict)
        monkeypatch.setattr(loads, "first_record", lambda *_: None)
        return Driver([row.key for row in rows], 1.0, (KLAMM, KAFKA))

    return make


Make = Callable[[list[Row], list[str]], Driver]


def test_systems_take_turns_and_rows_share_clusters(make_driver: Make) -> None:
    log: list[str] = []
    rows = [row_of("a", 1, log), row_of("b", 3, log), row_of("c", 1, log), row_of("d", 3, log, alone=True)]
    driver, rounds = make_driver(rows, log), list[int]()
    driver.run(None, lambda: rounds.append(driver.results["a"].rounds))
    turns = "klamm1 a c closed kafka1 a c closed klamm3 b closed kafka3 b closed"
    assert log == f"{turns} klamm3 d closed kafka3 d closed {turns}".split()
    assert rounds == [1, 2]
    assert {key: result.rounds for key, result in driver.results.items()} == {"a": 2, "b": 2, "c": 2, "d": 1}
    assert [len(samples) for samples in driver.results["a"].figures["figure"].values()] == [2, 2]
    assert not driver.failed


def test_asked_for_rounds_hold_for_all(make_driver: Make) -> None:
    log: list[str] = []
    driver = make_driver([row_of("a", 1, log), row_of("d", 1, log, alone=True)], log)
    driver.run(3, lambda: None)
    assert {result.rounds for result in driver.results.values()} == {3}


def test_after_a_failure_the_next_row_has_another_cluster_and_nothing_counts(make_driver: Make) -> None:
    log: list[str] = []
    driver = make_driver([row_of("a", 1, log, fails_on=KAFKA), row_of("b", 1, log)], log)
    driver.run(1, lambda: None)
    assert log == ["klamm1", "a", "b", "closed", "kafka1", "a", "closed", "kafka1", "b", "closed"]
    assert driver.failed
    assert driver.results["a"].errors == ["kafka: ClientError: on purpose"]
    assert driver.results["a"].figures["figure"][KAFKA] == []
    assert len(driver.results["b"].figures["figure"][KAFKA]) == 1


def test_without_java_one_column_says_so(make_driver: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    driver = make_driver([row_of("a", 1, log)], log)

    def no_java(_: int) -> FakeCluster:
        raise NoKafkaToolsError("there is no Java")

    monkeypatch.setattr(
        driver_module, "SYSTEMS", {KLAMM: lambda brokers: FakeCluster(KLAMM, brokers, log), KAFKA: no_java}
    )
    driver.run(1, lambda: None)
    assert driver.results["a"].missing == {KAFKA: "there is no Java"}
    assert len(driver.results["a"].figures["figure"][KLAMM]) == 1
    assert not driver.failed


def test_work_is_scaled_in_thousands() -> None:
    def scaled(scale: float) -> list[int]:
        work = Work(FakeCluster(KLAMM, 1, []), scale)  # type: ignore[arg-type]
        return [work.count(records) for records in (600_000, 1_000)]

    assert scaled(1.0) == [600_000, 1_000]
    assert scaled(0.01) == [6_000, 1_000]


def test_warming_up_ends_when_it_gets_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [1.0, 2.0, 3.0, 4.0, 5.0, 5.2, 5.1, 5.0]
    asked: list[str] = []

    def produce(_: str, topic: str, *rest: object) -> float:
        asked.append(topic)
        return rates[len(asked) - 1]

    for name in ("create_topics", "delete_topic", "consume"):
        monkeypatch.setattr(loads, name, lambda *_: None)
    monkeypatch.setattr(loads, "produce", produce)
    Work(FakeCluster(KAFKA, 3, []), 1.0).warm_up()  # type: ignore[arg-type]
    assert len(asked) == 7
    rates = [5.0] * 8
    asked.clear()
    Work(FakeCluster(KAFKA, 3, []), 1.0).warm_up()  # type: ignore[arg-type]
    assert len(asked) == 4


def test_clients_that_fail_tell_why(tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    program.write_text("import sys\nprint('ready', flush=True)\nassert sys.stdin.readline()\nprint(1, 2.5)\n")
    assert loads.run_together(program, [(), ()]) == [[1.0, 2.5], [1.0, 2.5]]
    program.write_text("raise ValueError('on purpose')\n")
    with pytest.raises(loads.ClientError, match="on purpose"):
        loads.run_together(program, [(), ()])
