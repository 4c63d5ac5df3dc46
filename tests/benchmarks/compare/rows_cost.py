"""Rows 7 and 11: what a cluster holds of memory, and what it uses of the processors for a gigabyte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psutil

from . import loads
from .row import PARTITIONS, Sample, Work

RECORD_SIZE: Final = 1000
RECORDS: Final = 1_000_000
MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a cluster held and used when a gigabyte had gone through it."""

    memory: int
    cpu_seconds: float
    gigabytes: float


def memory(work: Work) -> Iterator[Sample]:
    """Resident memory (RSS) of all processes of a cluster of three brokers, added up; pages that processes share count
    for each of them. Idle: 5 s after the first record of a new cluster. Then, after row 11's traffic."""
    yield Sample("idle", work.memory_at_start / MB)
    yield Sample("after 1 GB", _traffic(work).memory / MB)


def cpu(work: Work) -> Iterator[Sample]:
    """Three brokers. Processor time, user and system, of all of the cluster's processes while 1,000,000 records of 1 KB
    are produced as in row 2 (6 partitions, 3 replicas, acks=all) and consumed once as in row 3 (one consumer), divided
    by the gigabytes produced. The clients' time is not in it. The cluster has been warmed up before."""
    traffic = _traffic(work)
    yield Sample("produce and consume", traffic.cpu_seconds / traffic.gigabytes)


def resident_memory(pids: list[int]) -> int:
    """Bytes of all of these processes."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def _traffic(work: Work) -> Traffic:
    """The gigabyte, once for each cluster."""
    if work.traffic is None:
        topic, count = work.topic(PARTITIONS, 3), work.count(RECORDS)
        before = _cpu_seconds(work.cluster.pids())
        loads.produce(work.servers, topic, count, PARTITIONS, RECORD_SIZE, "all")
        loads.consume(work.servers, topic, count + 1, PARTITIONS)
        used = _cpu_seconds(work.cluster.pids()) - before
        work.traffic = Traffic(resident_memory(work.cluster.pids()), used, count * RECORD_SIZE / 1e9)
    return work.traffic


def _cpu_seconds(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
