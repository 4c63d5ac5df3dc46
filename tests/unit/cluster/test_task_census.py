"""The line that a node writes when it is asked what it is made of."""

from __future__ import annotations

from klamm.cluster.task_census import KINDS_MAX, census


def test_tasks_are_counted_by_kind_the_most_frequent_first() -> None:
    assert census(["b", "a", "Fetcher.run", "b"], 1234) == "tasks=4 blocks=1234 kinds=b:2,Fetcher.run:1,a:1"


def test_rare_kinds_are_counted_together() -> None:
    kinds = [f"kind-{number:02}" for number in range(KINDS_MAX)] * 2 + ["rare", "rarer"]
    line = census(kinds, 0)
    assert line.startswith(f"tasks={2 * KINDS_MAX + 2} ")
    assert line.endswith("kind-19:2,others:2")


def test_a_process_without_tasks() -> None:
    assert census([], 7) == "tasks=0 blocks=7 kinds="
