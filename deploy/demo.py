"""`klamm demo failover`: brokers and controllers fall under load, and then every single record is checked.

A cluster of its own on free ports takes the lines of the standard library's source at acks=all with idempotence, while
a consumer reads along. Meanwhile a leader and the active controller are killed and a follower is stopped
(demo_faults.py). At the end all is read back and compared, replicas byte by byte (demo_verify.py, demo_check.py).
"""

from __future__ import annotations

import gc
import time
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..client import Admin, NewTopic
from .demo_check import SentRecord
from .demo_faults import FaultOutcome, FaultScript
from .demo_load import AckLedger, LoadConsumer, LoadProducer, read_body
from .demo_verify import Verdict, converged_high_watermarks, verify
from .demo_view import LiveView, PlainView, Snapshot, View
from .errors import WaitTimeoutError
from .local import LocalCluster
from .tables import print_table

TOPIC: Final = "stdlib"
PARTITIONS: Final = 6
REPLICATION_FACTOR: Final = 3
PACE_SECONDS: Final = 30.0
DRAIN_SECONDS_MAX: Final = 120.0
VIEW_SECONDS: Final = 0.25
BREACHES_SHOWN: Final = 20
BROKER_CONFIG: Final = {"replica.lag.time.max.ms": "1500"}
CONTROLLER_CONFIG: Final = {"broker.session.timeout.ms": "4000"}
"""A stopped follower shall leave the ISR because it lags, before its session ends: both in seconds."""


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """How it went."""

    acked: int
    failures: list[str]
    faults: list[FaultOutcome]
    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing wrong, and the producer gave nothing up."""
        return not self.verdict.breaches and not self.failures


def run_failover_demo(*, plain: bool, keep: Path | None = None, lines_max: int | None = None) -> int:
    """Runs it and prints what happened; 0 if all was well, 1 on any breach. `keep` is a folder for data and logs."""
    began = time.monotonic()
    print("starting 3 controllers and 3 brokers ...", flush=True)
    with LocalCluster(data_folder=keep, broker_config=BROKER_CONFIG, controller_config=CONTROLLER_CONFIG) as cluster:
        print(f"up after {time.monotonic() - began:.1f} s: {cluster.bootstrap_servers}", flush=True)
        body = read_body(lines_max=lines_max)
        outcome = _run(cluster, body, PlainView() if plain else LiveView())
    _report(outcome, time.monotonic() - began)
    return 0 if outcome.passed else 1


def _run(cluster: LocalCluster, body: list[SentRecord], view: View) -> DemoOutcome:
    gc.collect()
    gc.freeze()  # the body stays to the end; going through it again and again would cost more than the load does
    with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, REPLICATION_FACTOR)])
    ledger = AckLedger(PARTITIONS)
    producer = LoadProducer(body, ledger, pace_seconds=PACE_SECONDS)
    consumer = LoadConsumer(PARTITIONS)
    script = FaultScript(cluster, TOPIC, ledger, announce=view.event)
    load = (cluster, view, body, ledger, producer, consumer)
    with ThreadPoolExecutor(max_workers=3, thread_name_prefix="demo") as pool, view:
        try:
            view.event(f"sending {len(body):,} lines of source to {PARTITIONS} partitions at acks=all")
            producing = pool.submit(producer.run, cluster.bootstrap_servers, TOPIC)
            consuming = pool.submit(consumer.run, cluster.bootstrap_servers, TOPIC)
            _watch(*load, until=pool.submit(script.run), others=(producing, consuming))
            view.event("faults are over; sending the rest")
            producer.finish()
            _watch(*load, until=producing, others=(consuming,))
            view.event("all sent; waiting until every replica holds the same")
            high_watermarks = converged_high_watermarks(cluster, TOPIC)
            consumer.read_to(high_watermarks)
            _watch(*load, until=consuming, others=())
            view.event("reading everything back")
            verdict = verify(cluster, TOPIC, body, ledger, consumer.seen, high_watermarks)
        finally:
            for part in (script, producer, consumer):
                part.stop()
    return DemoOutcome(ledger.acked, ledger.failures, script.outcomes, verdict)


def _watch(
    cluster: LocalCluster,
    view: View,
    body: list[SentRecord],
    ledger: AckLedger,
    producer: LoadProducer,
    consumer: LoadConsumer,
    *,
    until: Future[None],
    others: tuple[Future[None], ...],
) -> None:
    """Shows how it stands until that part has ended; raises what it, or any other part, failed with."""
    deadline = time.monotonic() + DRAIN_SECONDS_MAX + PACE_SECONDS
    while not until.done():
        wait((until, *others), timeout=VIEW_SECONDS, return_when=FIRST_EXCEPTION)
        for part in others:
            if part.done():
                part.result()
        topic = cluster.observer.topic(TOPIC)
        view.show(
            Snapshot(
                total=len(body),
                sent=producer.sent,
                acked=min(ledger.acked, len(body)),  # the last acks may be counted early
                consumed=consumer.count,
                partitions=tuple(topic.partitions) if topic is not None else (),
                high_watermarks=cluster.observer.high_watermarks(topic) if topic is not None else {},
            )
        )
        if time.monotonic() > deadline:
            raise WaitTimeoutError("the demo does not come to its end; the cluster hangs")
    until.result()


def _report(outcome: DemoOutcome, seconds: float) -> None:
    rows = []
    for fault in outcome.faults:
        partition, longest = fault.longest
        waits = sorted(fault.waits)
        rows.append(
            (
                fault.name,
                f"{longest:.2f} s (partition {partition})",
                f"{waits[len(waits) // 2]:.2f} s",
                f"{fault.recovered_seconds:.1f} s",
            )
        )
    print_table(
        "how long each fault kept writes waiting",
        ("fault", "longest", "median of partitions", "until whole again"),
        rows,
    )
    verdict = outcome.verdict
    for failure in outcome.failures[:BREACHES_SHOWN]:
        print(f"given up by the producer: {failure}")
    for breach in verdict.breaches[:BREACHES_SHOWN]:
        print(f"BREACH {breach}")
    print(
        f"{outcome.acked:,} records acked, {verdict.records:,} stored, {verdict.replicas} replicas with "
        f"{verdict.replica_bytes:,} bytes compared, in {seconds:.0f} s"
    )
    if outcome.passed:
        print("Every acked record is at its acked offset, once, in order per key; the replicas are identical.")
    else:
        print(f"FAILED: {len(verdict.breaches)} breaches, {len(outcome.failures)} records given up.")
