"""Rows 7 and 11: what a cluster holds of memory, and what it uses of the processors for a gigabyte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import psutil

from . import loads
from .row import PARTITIONS, Sample, Work

RECORD_SIZE: Final = 1000
RECORDS: Final = 1_000_000
MB: Final = 1e6


class Memory(NamedTuple):
    """What processes hold, in bytes."""

    rss: int
    """Pages that several of them share count for each."""
    pss: int
    """Those are divided among them, so that the sum is what the machine has given away."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a cluster held and used when a gigabyte had gone through it."""

    memory: Memory
    cpu_seconds: float
    gigabytes: float


def memory(work: Work) -> Iterator[Sample]:
    """Resident memory of all processes of a cluster of three brokers, added up (RSS): pages that processes share, such
    as those of libraries, count for each of them. Then the same with shared pages counted once (PSS), which is what
    the cluster takes of the machine. Idle: 5 s after the first record of a new cluster. Then, after row 11's
    traffic."""
    assert work.memory_at_start is not None
    for when, found in (("idle", work.memory_at_start), ("after 1 GB", _traffic(work).memory)):
        yield Sample(when, found.rss / MB)
        yield Sample(f"{when}, shared pages once", found.pss / MB)


def cpu(work: Work) -> Iterator[Sample]:
    """Three brokers. Processor time, user and system, of all of the cluster's processes while 1,000,000 records of 1 KB
    are produced as in row 2 (6 partitions, 3 replicas, acks=all) and consumed once as in row 3 (one consumer), divided
    by the gigabytes produced. The clients' time is not in it. The cluster has been warmed up before."""
    traffic = _traffic(work)
    yield Sample("produce and consume", traffic.cpu_seconds / traffic.gigabytes)


def resident_memory(pids: list[int]) -> Memory:
    """Of all of these processes."""
    found = [psutil.Process(pid).memory_full_info() for pid in pids]
    return Memory(sum(each.rss for each in found), sum(each.pss for each in found))


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
