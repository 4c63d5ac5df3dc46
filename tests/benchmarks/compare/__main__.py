"""`make bench-compare`: the same work against Klamm and Apache Kafka, in turns, on this machine.

`PYTHONPATH=tests python -m benchmarks.compare --rows "1 5 6" --rounds 5` runs these rows alone; what other rows gave
before is kept, so that a long comparison can be made in parts. Without `--rounds` each row has 5 rounds, the curves
have 3 and row 10, which takes as long as many others, has one: that fits in about half an hour. `--scale 0.1` does a
tenth of it, for a quick look. `--systems klamm` runs one side alone. `--pages` measures nothing: it writes the page and
the charts from what there is; without it they are written only where `--publish` says so and all of the work was done.

Exit code 1 if a row failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from klamm.deploy.tables import print_table

from . import results
from .driver import Driver
from .page import COLUMNS, cells, publish
from .systems import SYSTEMS
from .table import BY_KEY, ROWS

REPOSITORY: Final = Path(__file__).parents[3]
RESULTS: Final = REPOSITORY / "build" / "benchmarks" / "compare.json"
DOCS: Final = REPOSITORY / "docs"


def main() -> int:
    """Runs, keeps and prints."""
    arguments = _arguments()
    stored = results.load(arguments.out)
    if arguments.pages:
        publish(DOCS, stored)
        return 0
    keys = arguments.rows.split() or list(BY_KEY)
    unknown = [key for key in keys if key not in BY_KEY]
    if unknown:
        print(f"no such row: {' '.join(unknown)}; there are {' '.join(BY_KEY)}", file=sys.stderr)
        return 2
    began, driver = time.monotonic(), Driver(keys, arguments.scale, arguments.systems.split())
    driver.run(arguments.rounds, lambda: results.save(arguments.out, stored | driver.results))
    rows = [line for row in ROWS if row.key in driver.results for line in cells(row, driver.results[row.key])]
    print_table(f"Klamm beside Apache Kafka, {time.monotonic() - began:.0f} s", COLUMNS, rows)
    for key, result in driver.results.items():
        for error in result.errors:
            print(f"row {key} failed: {error}")
    if arguments.publish and arguments.scale == 1:
        publish(DOCS, stored | driver.results)
    return 1 if driver.failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description="Klamm beside Apache Kafka.")
    parser.add_argument("--rows", default="", help=f"which, in quotes; all by default: {' '.join(BY_KEY)}")
    parser.add_argument("--rounds", type=int, help="how often (default 5; the curves 3, row 10 once)")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work (default %(default)s)")
    parser.add_argument("--systems", default=" ".join(SYSTEMS), help="which sides, in quotes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the results (default %(default)s)")
    parser.add_argument("--publish", action="store_true", help="write docs/performance.md and its charts")
    parser.add_argument("--pages", action="store_true", help="write them from the results that are there; run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
