"""A few seeds over the whole simulated cluster; `make simulate` runs a thousand, and tells the story of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from simulator.run import Outcome, run_plan
from simulator.schedule import Fault, Plan, draw
from simulator.shrink import shrink

SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_rule_holds_while_everything_fails(seed: int) -> None:
    outcome = run_plan(draw(seed))
    if outcome.error is not None:
        pytest.fail(f"{outcome.error}\n{outcome.transcript}\nagain: make simulate SEED={seed}")
    assert outcome.acked


def test_the_command_runs_seeds_in_worker_processes() -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "simulator", "--first", "40", "--seeds", "2", "--jobs", "2"]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 seeds in" in done.stdout and "0 failed" in done.stdout


def test_a_plan_is_its_seeds_alone() -> None:
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    assert len({fault.kind for seed in range(500) for fault in draw(seed).faults}) > 25


def test_a_failure_is_made_as_short_as_it_can_be() -> None:
    """Two faults are at fault: the others are left out, and these stay as they were."""
    guilty = {"power_all", "reset"}

    def run(plan: Plan) -> Outcome:
        fails = guilty <= {fault.kind for fault in plan.faults}
        return Outcome(plan, AssertionError("lost") if fails else None, "", 1, 1.0, "")

    kinds = ["calm", "cut", "power_all", "mend", "calm", "calm", "reset", "calm", "cut"]
    faults = tuple(Fault(10 * place, kind, place) for place, kind in enumerate(kinds))
    plan = Plan(1, 3, (), (1.0,), faults, 2)
    shortest = shrink(run(plan), run=run).plan
    assert shortest.faults == (faults[2], faults[6])


def test_a_failure_of_another_kind_is_not_taken_for_the_same() -> None:
    def run(plan: Plan) -> Outcome:
        error = AssertionError("liveness: x") if len(plan.faults) == 4 else ValueError("other")
        return Outcome(plan, error, "", 1, 1.0, "")

    plan = Plan(1, 3, (), (1.0,), tuple(Fault(place, "calm", place) for place in range(4)), 2)
    assert shrink(run(plan), run=run).plan == plan
