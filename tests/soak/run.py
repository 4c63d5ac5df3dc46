"""`make soak MINUTES=n`: steady load at half the capacity, brokers restarted every minute, and nothing may grow.

`python tests/soak/run.py --minutes 20 --restarts 3`: first the capacity is measured with the same clients; then the
load runs at half of that for so many minutes, while each minute so many of the three brokers are stopped in order and
started again, one after another. With 0 all live through; with 2 the first broker does. `--rate 1000` has each producer
send so many records a second instead: on a machine with other work the capacity says little.

Exit code 1 if a record was lost or doubled, a client failed, or something trends up. What was recorded is in the folder
that `--out` names: soak.html for people, soak.json for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from klamm.deploy.local import LocalCluster
from klamm.deploy.tables import print_table
from soak.client_process import Line
from soak.judge import Lives, Verdict, judge, warm_up_s
from soak.load import RECORD_BYTES, Load, measure_capacity
from soak.page import COLUMNS, page, row, sparkline
from soak.sampler import BEHIND, BLOCKS, METRICS, PROCESSOR, TASKS, WAITING, Sampler
from soak.trend import Point

CAPACITY_WARM_UP_S: Final = 5.0
CAPACITY_S: Final = 15.0
RESTART_EACH_S: Final = 60.0
BALANCE_EACH_S: Final = 1.0
ASK_EACH_S: Final = 0.2
HEALTHY_S_MAX: Final = 120.0

BROKER_CONFIG: Final[Mapping[str, str]] = {
    # A broker that lives for a minute looks for old segments, too.
    "log.retention.check.interval.ms": "5000",
}
CONTROLLER_CONFIG: Final[Mapping[str, str]] = {
    # The metadata log is cut often enough to see that it is: every few restarts. By default that takes hours.
    "metadata.snapshot.entries.max": "100",
    "metadata.tail.records.max": "500",
}


class Restarts:
    """Each minute so many brokers, one after another, each only when all replicas are in sync again."""

    def __init__(self, cluster: LocalCluster, load: Load, sampler: Sampler, count: int) -> None:
        self._cluster = cluster
        self._load = load
        self._sampler = sampler
        brokers = [spec.node_id for spec in cluster.layout.brokers]
        self._victims = brokers[len(brokers) - count :]
        self.most_behind = 0
        self.done: list[Point] = []
        """From when to when each was away or not in sync."""

    def run(self, duration_s: float) -> None:
        """Returns when the time is over."""
        while (left := duration_s - self._sampler.now_s()) > 0:
            self._wait(min(left, RESTART_EACH_S - self._sampler.now_s() % RESTART_EACH_S))
            for broker_id in self._victims:
                if duration_s - self._sampler.now_s() > RESTART_EACH_S / 2:
                    self._restart(broker_id)

    def _wait(self, seconds: float) -> None:
        """Meanwhile keeps an eye on the load."""
        until = self._sampler.now_s() + seconds
        while (left := until - self._sampler.now_s()) > 0:
            self.most_behind = max(self.most_behind, self._load.balance())
            time.sleep(min(left, BALANCE_EACH_S))

    def _restart(self, broker_id: int) -> None:
        began = self._sampler.now_s()
        self._cluster.stop_node(broker_id)
        self._cluster.start_node(broker_id)
        self._cluster.wait_until(self._is_healthy, timeout_s=HEALTHY_S_MAX, what="full ISRs")
        self.done.append((began, self._sampler.now_s()))

    def _is_healthy(self) -> bool:
        self._wait(ASK_EACH_S)
        return self._cluster.describe().healthy


def soak(
    cluster: LocalCluster, minutes: float, restarts: int, folder: Path, rate: float | None
) -> tuple[Sampler, list[str], list[Point], list[str]]:
    """What was recorded, complaints, restarts, and facts for the reader."""
    if rate is None:
        print("measuring the capacity ...", file=sys.stderr, flush=True)
        capacity = measure_capacity(cluster, folder, CAPACITY_WARM_UP_S, CAPACITY_S)
        rates = {name: most / 2 for name, most in capacity.items()}
        why = f"half the capacity, which is {_rates(capacity)}"
    else:
        rates = dict.fromkeys(("produce-sdk", "produce-confluent"), rate)
        why = "as asked for"
    print(f"for {minutes:g} minutes {_rates(rates)}: {why}", file=sys.stderr, flush=True)
    sampler = Sampler()
    for spec in cluster.layout.nodes:
        sampler.watch(spec.name, partial(cluster.pid_of, spec.name), spec.log_path)

    acked: dict[str, int] = {}

    def on_line(name: str, pid: int, line: Line) -> None:
        if name not in sampler.watched:
            return
        values = {TASKS: line["tasks"], BLOCKS: line["blocks"]}
        if name.startswith("produce"):
            acked[name] = line["done"]
        elif name.startswith("read"):
            values[BEHIND] = sum(acked.values()) - line["done"]
        sampler.watched[name].told(sampler.now_s(), pid, values)

    with Load(cluster, "soak", rates, folder, on_line) as load:
        for name, client in load.clients.items():
            sampler.watch(name, client.running_pid)
        sampler.start()
        brokers = Restarts(cluster, load, sampler, restarts)
        try:
            brokers.run(60 * minutes)
        finally:
            sampler.stop()
        complaints, done = load.finish()
    facts = [
        f"load {_rates(rates)} of {RECORD_BYTES} bytes, RF 3, acks=all: {why}",
        *done,
        f"{len(brokers.done)} restarts of a broker, down to in sync again {_range([b - a for a, b in brokers.done])} s",
        f"readers were {brokers.most_behind / sum(rates.values()):.1f} s behind at most; "
        f"the load was held back for {load.held_back_s:.0f} s because of that",
    ]
    return sampler, complaints, brokers.done, facts


def _rates(rates: Mapping[str, float]) -> str:
    return " + ".join(f"{rate:,.0f}/s {name}" for name, rate in rates.items())


def _range(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}" if values else "-"


def _lives(sampler: Sampler) -> dict[str, Lives]:
    return {name: [dict(life.series) for life in watched.lives] for name, watched in sampler.watched.items()}


def _share_of_time(lives: Lives, metric: str) -> float:
    """Of seconds that are counted up, over all lives: 1 is one core, or all the time."""
    used = sum(series[-1][1] - series[0][1] for life in lives if (series := life.get(metric)))
    took = sum(series[-1][0] - series[0][0] for life in lives if (series := life.get(metric)))
    return used / took if took else 0.0


def _shares(lives: Mapping[str, Lives], metric: str) -> str:
    return ", ".join(f"{name} {100 * _share_of_time(each, metric):.0f} %" for name, each in lives.items())


def report(
    title: str, facts: list[str], sampler: Sampler, marks: list[Point], verdicts: list[Verdict], out: Path
) -> None:
    """Writes the page and the data, prints the summary."""
    lives = _lives(sampler)
    nodes = {name: each for name, each in lives.items() if sampler.watched[name].log is not None}
    facts = [
        *facts,
        f"processor: {_shares(lives, PROCESSOR)}",
        f"of the time each waited for a processor that others had, as did acks meanwhile: {_shares(nodes, WAITING)}",
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "soak.html").write_text(page(title, facts, lives, METRICS, marks, verdicts), encoding="utf-8")
    kinds = {name: watched.kinds for name, watched in sampler.watched.items() if watched.kinds}
    (out / "soak.json").write_text(json.dumps({"title": title, "facts": facts, "kinds": kinds, "lives": lives}))
    rows = [(*row(each, METRICS[each.metric]), sparkline(each.points)) for each in verdicts]
    print_table(title, (*COLUMNS, "course"), rows)
    print("\n".join(facts))
    print(f"charts: {out / 'soak.html'}")


def main() -> int:
    """Runs the soak; the exit code."""
    parser = argparse.ArgumentParser(description="Steady load with rolling restarts; nothing may grow.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--restarts", type=int, default=3, choices=(0, 1, 2, 3), help="brokers restarted each minute")
    parser.add_argument("--rate", type=float, help="records a second of each producer; half the capacity by default")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    arguments = parser.parse_args()
    minutes, restarts = arguments.minutes, arguments.restarts
    with (
        tempfile.TemporaryDirectory(prefix="klamm-soak-") as folder,
        LocalCluster(broker_config=BROKER_CONFIG, controller_config=CONTROLLER_CONFIG) as cluster,
    ):
        sampler, complaints, marks, facts = soak(cluster, minutes, restarts, Path(folder), arguments.rate)
    duration_s = 60 * minutes
    verdicts = judge(_lives(sampler), duration_s)
    title = f"soak: {minutes:g} minutes, {restarts} brokers restarted each minute, {os.cpu_count()} cores"
    title += f"; judged after {warm_up_s(duration_s):.0f} s of warm-up"
    report(title, facts, sampler, marks, verdicts, arguments.out)
    unjudged = sum(each.trend is None for each in verdicts)
    if unjudged:
        print(f"{unjudged} of {len(verdicts)} series were too short to judge: run for longer")
    rising = [each for each in verdicts if each.rises]
    for each in rising:
        print("RISES: " + ", ".join(row(each, METRICS[each.metric])[:-1]))
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    if not complaints:
        print("every acked record was read once, in order, by each reader, and by the group; all offsets are committed")
    return 1 if rising or complaints else 0


if __name__ == "__main__":
    sys.exit(main())
