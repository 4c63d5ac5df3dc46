"""`python -m simulator`: many seeds over the simulated cluster, or one of them with its story.

    python -m simulator --seeds 1000 [--first 0] [--jobs 2]    exit code 1 if a rule was broken
    python -m simulator --seed 17 [--log]                      the same run again, told line by line

A failure is made shorter, and its story is kept under build/simulator/. Runs are the same every time: they differ
neither by machine nor by the order in which they are made.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parents[2] / "build" / "simulator"
_SEEDS_A_TASK: Final = 5


class Result(NamedTuple):
    """Of one seed, as it comes back from a worker."""

    seed: int
    error: str | None
    acked: int
    faults: int
    simulated_s: float
    cpu_s: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulator", description="A whole cluster, simulated.")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, with its story")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    parser.add_argument("--log", action="store_true", help="with --seed: what the nodes log, too")
    given = parser.parse_args()
    if given.seed is not None:
        return tell(given.seed, log=given.log)
    return campaign(range(given.first, given.first + given.seeds), given.jobs)


def tell(seed: int, *, log: bool) -> int:
    """Runs one seed and prints its story, the shortest that was found if it fails."""
    from simulator.run import run_plan
    from simulator.schedule import draw

    logging.basicConfig(level=logging.INFO if log else logging.CRITICAL, format="%(message)s", stream=sys.stdout)
    plan = draw(seed)
    print(f"seed {seed}: {plan.brokers} brokers, delays {plan.delays_ms} ms, topics {plan.topics}")
    outcome = run_plan(plan)
    print(outcome.transcript, end="")
    print(f"acked {outcome.acked}, simulated {outcome.simulated_s:.1f} s, digest {outcome.digest}")
    if outcome.error is None:
        print("every rule held")
        return 0
    print(story(seed))
    return 1


def story(seed: int) -> str:
    """The failure of a seed, with as few faults as were found to be enough."""
    from simulator.run import run_plan
    from simulator.schedule import draw
    from simulator.shrink import kind_of, shrink

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        first = run_plan(draw(seed))
        if first.error is None:
            return f"seed {seed} did not fail again: the run is not the same every time, which is a bug by itself"
        shortest = shrink(first)
    finally:
        logging.disable(level)
    lines = [
        f"seed {seed}: {kind_of(first.error)}: {first.error}",
        f"with {len(shortest.plan.faults)} of its {len(first.plan.faults)} faults: {shortest.error}",
        *(f"  at {fault.at_ms} ms {fault.kind} choice={fault.choice}" for fault in shortest.plan.faults),
        shortest.transcript,
        f"again: make simulate SEED={seed}",
    ]
    return "\n".join(lines)


def run_seeds(seeds: Iterable[int]) -> list[Result]:
    """In a worker."""
    from simulator.run import run_plan
    from simulator.schedule import draw

    logging.disable(logging.CRITICAL)
    results = []
    for seed in seeds:
        began = time.process_time()
        outcome = run_plan(draw(seed))
        error = None if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
        spent = time.process_time() - began
        results.append(Result(seed, error, outcome.acked, len(outcome.plan.faults), outcome.simulated_s, spent))
    return results


def campaign(seeds: range, jobs: int) -> int:
    """All of them; prints a summary. :returns: the exit code."""
    began = time.monotonic()
    tasks = [seeds[place : place + _SEEDS_A_TASK] for place in range(0, len(seeds), _SEEDS_A_TASK)]
    results: list[Result] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as workers:
        for some in workers.map(run_seeds, tasks):
            for result in some:
                results.append(result)
                if result.error is not None:
                    print(f"seed {result.seed}: {result.error}", flush=True)
    failed = [result for result in results if result.error is not None]
    cpu_s = sum(result.cpu_s for result in results)
    print(
        f"{len(results)} seeds in {time.monotonic() - began:.0f} s ({cpu_s / len(results):.2f} s of CPU each): "
        f"{sum(result.faults for result in results)} faults, {sum(result.acked for result in results)} records acked, "
        f"{sum(result.simulated_s for result in results):.0f} s simulated, {len(failed)} failed"
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    for result in failed[:5]:
        path = FOLDER / f"seed-{result.seed}.txt"
        path.write_text(story(result.seed), encoding="utf-8")
        print(f"seed {result.seed}: its story is in {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
