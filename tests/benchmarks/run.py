"""`make bench`: the benchmarks against clusters of real processes, as a table with spread.

`python tests/benchmarks/run.py --only consume --only latency` runs only these; `--list` names them all. Those that take
many minutes run only when they are named.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable

import clean_restart
import client_ceiling
import failover
import footprint
import kafka_connections
import kafka_groups
import kafka_throughput
import many_partitions
import throughput
from klamm.deploy.tables import print_table
from measurement import Measurement

BENCHMARKS: dict[str, Callable[[], list[Measurement]]] = {
    "start": footprint.start_to_first_record,
    "idle": footprint.idle,
    "leader": failover.leader,
    "restart": clean_restart.clean_restart,
    "controller": failover.active_controller,
    "create": throughput.create_to_first_record,
    "produce-large": throughput.produce_large,
    "produce-small": throughput.produce_small,
    "consume": throughput.consume_large,
    "latency": throughput.latency,
    "kafka-produce-small": client_ceiling.produce_small,
    "kafka-produce-large": kafka_throughput.produce_large,
    "kafka-produce-replicated": kafka_throughput.produce_replicated,
    "kafka-consume": kafka_throughput.consume,
    "kafka-single-records": kafka_throughput.single_records,
    "kafka-large-group": kafka_groups.large_group,
    "kafka-many-groups": kafka_groups.many_groups,
    "kafka-idle-connections": kafka_connections.idle,
}
EXTRAS: dict[str, Callable[[], list[Measurement]]] = {
    "many-partitions": many_partitions.replicated,
    "many-partitions-unreplicated": many_partitions.unreplicated,
}


def main() -> int:
    """Runs those that are named, or all but the longest."""
    known = BENCHMARKS | EXTRAS
    parser = argparse.ArgumentParser(description="Runs the benchmarks.")
    parser.add_argument("--only", action="append", choices=known, metavar="NAME", help="run this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(known))
        return 0
    began, load = time.monotonic(), os.getloadavg()[0]
    rows = []
    for name in arguments.only or BENCHMARKS:
        print(f"running {name} ...", file=sys.stderr, flush=True)
        rows += [measurement.row() for measurement in known[name]()]
    title = (
        f"klamm on {os.cpu_count()} cores, Python {platform.python_version()}, clients and cluster together; "
        f"load average {load:.1f} before; {time.monotonic() - began:.0f} s"
    )
    print_table(title, ("what", "to reach", "median", "spread", "runs", "reached"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
