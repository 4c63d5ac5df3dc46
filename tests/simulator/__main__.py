"""`python -m simulator`: many seeds over the simulated cluster, or one of them with its story.

    python -m simulator --seeds 1000 [--first 0] [--jobs 2]    exit code 1 if a rule was broken
    python -m simulator --seed 17 [--log]                      the same run again, told line by line

A failure is made shorter, and its story is kept under build/simulator/. Runs are the same every time: they differ
neither by machine nor by the order in which they are made.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from simulator.campaign import campaign, story
from simulator.run import run_plan
from simulator.schedule import draw


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


if __name__ == "__main__":
    sys.exit(main())
