"""Many seeds in worker processes, and the story of those that fail."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from simulator.run import run_plan
from simulator.schedule import draw
from simulator.shrink import kind_of, shrink

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


def story(seed: int) -> str:
    """The failure of a seed, with as few faults as were found to be enough."""
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
    logging.disable(logging.CRITICAL)
    if not gc.get_freeze_count():
        gc.freeze()  # what was imported stays: each run's end need not look at it
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
