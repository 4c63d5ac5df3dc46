"""Start to first acked record; memory and processor time of a cluster that does nothing."""

from __future__ import annotations

import time

import psutil
from klamm.client import Admin, NewTopic, Producer
from klamm.deploy.local import LocalCluster
from measurement import Measurement

IDLE_SECONDS = 10.0


def start_to_first_record(runs: int = 10) -> list[Measurement]:
    """LocalCluster(3, 3).start() to the first acked acks=all record."""
    samples = []
    for _ in range(runs):
        cluster = LocalCluster()
        began = time.monotonic()
        try:
            cluster.start()
            with Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
                producer.send("first", b"record").get(timeout=30)
                samples.append(time.monotonic() - began)
        finally:
            cluster.close()
    what = "LocalCluster(3, 3) start to first acked acks=all record"
    return [Measurement(what, "s", "2 s", tuple(samples), lambda m: m.median <= 2)]


def idle(runs: int = 3) -> list[Measurement]:
    """Memory per process and processor time of all, with one topic and nothing going on."""
    busy: list[float] = []
    with LocalCluster() as cluster:
        with Admin(bootstrap_servers=cluster.bootstrap_servers) as admin:
            admin.create_topics([NewTopic("idle", 6, 3)])
        by_role: dict[str, list[psutil.Process]] = {}
        for node in cluster.nodes():
            by_role.setdefault(node.role, []).append(psutil.Process(node.pid))
        processes = [process for some in by_role.values() for process in some]
        time.sleep(3)  # what the start left to do is not idleness
        for _ in range(runs):
            before, began = _processor_seconds(processes), time.monotonic()
            time.sleep(IDLE_SECONDS)
            busy.append(100 * (_processor_seconds(processes) - before) / (time.monotonic() - began))
        resident = {role: tuple(p.memory_info().rss / 1e6 for p in some) for role, some in by_role.items()}
    rows = [
        Measurement(f"resident memory of each idle {role}", "MB", "60 MB", sizes, lambda m: m.worst <= 60)
        for role, sizes in resident.items()
    ]
    rows.append(
        Measurement("idle CPU of the whole cluster", "%", "3 % of one core", tuple(busy), lambda m: m.median <= 3)
    )
    return rows


def _processor_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
