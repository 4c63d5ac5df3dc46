"""A seed is a run, to the byte: again in the same process, and in another one whose strings hash otherwise."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulator.kafka_run import run_kafka_clients
from simulator.run import run_plan
from simulator.schedule import draw

SEEDS = (1, 4)
TESTS = Path(__file__).parents[1]
_ELSEWHERE = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
from test_same_seed_same_run import {trace}
print({trace}({seed}))
"""


def trace_of_plan(seed: int) -> str:
    """All that happened: every message on the wire, and the story."""
    outcome = run_plan(draw(seed))
    return f"{outcome.digest} {_short(outcome.transcript)} {outcome.acked} {outcome.simulated_s!r} {outcome.error!r}"


def trace_of_kafka_clients(seed: int) -> str:
    """The same of a run of aiokafka's clients alone."""
    world = run_kafka_clients(seed, ("kill_broker", "reset", "restart"), crashes=1)
    ledger = world.ledger
    said = _short(repr((ledger.sends, ledger.polls, ledger.commits)))
    return f"{world.network.digest()} {_short(world.transcript.text())} {said} {world.loop.now_s!r}"


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def elsewhere(trace: str, seed: int) -> str:
    """In a process of its own, whose strings have other hashes."""
    program = _ELSEWHERE.format(tests=str(TESTS), here=str(TESTS / "simulation"), trace=trace, seed=seed)
    environment = {**os.environ, "PYTHONHASHSEED": str(seed + 1)}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return ran.stdout.strip()


@functools.cache
def first_trace(seed: int) -> str:
    """Of a plan: several tests look at it."""
    return trace_of_plan(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_runs_of_a_seed_are_the_same(seed: int) -> None:
    first = first_trace(seed)
    assert trace_of_plan(seed) == first
    assert elsewhere("trace_of_plan", seed) == first


def test_so_are_runs_of_kafka_clients() -> None:
    first = trace_of_kafka_clients(7)
    assert trace_of_kafka_clients(7) == first
    assert elsewhere("trace_of_kafka_clients", 7) == first


def test_another_seed_is_another_run() -> None:
    assert first_trace(SEEDS[0]).split()[0] != first_trace(SEEDS[1]).split()[0]
