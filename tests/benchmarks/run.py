"""`make bench`: the benchmarks against clusters of real processes, as a table with spread.

`python tests/benchmarks/run.py start idle ...` runs only these: start, idle, leader, controller, throughput.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable

import failover
import footprint
import throughput
from klamm.deploy.tables import print_table
from measurement import Measurement

BENCHMARKS: dict[str, Callable[[], list[Measurement]]] = {
    "start": lambda: [footprint.start_to_first_record()],
    "idle": footprint.idle,
    "leader": lambda: [failover.leader()],
    "controller": lambda: [failover.active_controller()],
    "throughput": throughput.all_of_it,
}


def main() -> int:
    """Runs those that are named, or all; 2 for a name that there is not."""
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows = []
    for name in names:
        print(f"running {name} ...", file=sys.stderr, flush=True)
        rows += [measurement.row() for measurement in BENCHMARKS[name]()]
    title = f"klamm on {os.cpu_count()} cores, Python {platform.python_version()}, clients and cluster together"
    print_table(title, ("what", "to reach", "median", "spread", "runs", "reached"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
