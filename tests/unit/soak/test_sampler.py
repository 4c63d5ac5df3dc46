"""What is read of a process, and of the census in a node's log."""

from __future__ import annotations

import os
from pathlib import Path

from soak.sampler import ANONYMOUS, BLOCKS, DESCRIPTORS, MEMORY, PROCESSOR, TASKS, THREADS, WAITING, Watched

CENSUS = b"2026-11-21 08:00:00,000 INFO node=broker-1 klamm.broker.__main__ census tasks=%d blocks=%d kinds=a:2,b:1\n"


def test_a_process_is_measured_from_outside() -> None:
    watched = Watched("this", os.getpid, None)
    watched.sample(2.0)
    with Path(os.devnull).open("rb"):
        watched.sample(4.0)
    (life,) = watched.lives
    assert life.pid == os.getpid()
    assert set(life.series) - {WAITING} == {MEMORY, ANONYMOUS, DESCRIPTORS, THREADS, PROCESSOR}
    before, after = life.series[DESCRIPTORS]
    assert (before[0], after[0]) == (2.0, 4.0)
    assert after[1] == before[1] + 1
    assert life.series[MEMORY][0][1] > life.series[ANONYMOUS][0][1] > 1e6


def test_a_process_that_is_gone_is_passed_over() -> None:
    watched = Watched("gone", lambda: 2**22 + 1, None)
    watched.sample(2.0)
    watched.pid = lambda: None
    watched.sample(4.0)
    assert watched.lives == []


def test_a_census_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"READY\n" + CENSUS % (7, 100))
    watched = Watched("this", os.getpid, log)  # this very process catches no SIGUSR1, so that none is sent
    watched.sample(2.0)
    watched.sample(4.0)
    assert TASKS not in watched.lives[0].series, "what was written before the first sample belongs to no life"
    with log.open("ab") as file:
        line = CENSUS % (8, 110)
        file.write(line[:-9])
        file.flush()
        watched.sample(6.0)
        file.write(line[-9:])
        file.flush()
        watched.sample(8.0)
        watched.sample(10.0)
    series = watched.lives[0].series
    assert (series[TASKS], series[BLOCKS]) == ([(8.0, 8)], [(8.0, 110)])
    assert watched.kinds == "a:2,b:1"


def test_a_new_process_under_an_old_name_is_a_new_life() -> None:
    watched = Watched("client", lambda: None, None)
    watched.told(1.0, 11, {TASKS: 3})
    watched.told(2.0, 11, {TASKS: 4})
    watched.told(3.0, 12, {TASKS: 5})
    assert [(life.pid, life.series[TASKS]) for life in watched.lives] == [(11, [(1.0, 3), (2.0, 4)]), (12, [(3.0, 5)])]
