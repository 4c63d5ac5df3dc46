"""`python -m simulator.mutants [NAME...] [--seeds 2000] [--first 0] [--jobs 2] [--write]`: which seeds find which bug.

Exit code 1 if one was not found. With --write the rows of docs/mutants.md are replaced by what was seen. With --quick N
only those are planted that took at most half of N seeds when the page was written, and each gets N.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

from simulator.mutants import MUTANTS
from simulator.mutants.hunt import Caught, hunt_named
from simulator.mutants.table import line, seeds_needed, write


def main() -> int:
    known = [mutant.name for mutant in MUTANTS]
    parser = argparse.ArgumentParser(
        prog="python -m simulator.mutants", description="Planted bugs, and who finds them."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all of them if none is given")
    parser.add_argument("--seeds", type=int, default=2_000, help="at most so many for each")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--write", action="store_true", help="keep what was seen in docs/mutants.md")
    parser.add_argument("--quick", type=int, metavar="N", help="those that are found soon, within N seeds")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"there is no mutant {', '.join(unknown)}")
    names, seeds = given.names or known, given.seeds
    if given.quick is not None:
        needed = seeds_needed()
        names, seeds = [name for name in names if needed.get(name, given.quick) * 2 <= given.quick], given.quick
    found = hunt_all(names, range(given.first, given.first + seeds), given.jobs, keep=given.write)
    survivors = [each.mutant for each in found if not each.rule]
    spent = sum(each.cpu_s for each in found)
    print(f"{len(found) - len(survivors)} of {len(found)} mutants were found, in {spent:.0f} s of CPU")
    if survivors:
        print(f"not found: {', '.join(survivors)}")
    return 1 if survivors else 0


def hunt_all(names: list[str], seeds: range, jobs: int, *, keep: bool = False) -> list[Caught]:
    """Each in a worker; prints the table as it grows, and with `keep` writes it down."""
    context = multiprocessing.get_context("spawn")
    found: list[Caught] = []
    # Without max_tasks_per_child: in Python 3.11 a pool stands still when it has to replace its last worker.
    with ProcessPoolExecutor(jobs, mp_context=context) as workers:
        for done in as_completed([workers.submit(hunt_named, name, seeds) for name in names]):
            found.append(done.result())
            if keep:
                write(found[-1:])
            print(line(found[-1]), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
