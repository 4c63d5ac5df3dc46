"""A leader is cut off with what a producer had under way to it, and the producer goes on with the next one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from unittest.mock import patch

import pytest
from simulator.faults import FAULTS, image_of, isolate
from simulator.ledger import Send
from simulator.mutants import MUTANTS
from simulator.oracles.breach import Breach
from simulator.pipelining_producer import pipelining_producer
from simulator.run import Run
from simulator.schedule import Fault, Topic, draw
from simulator.workload import Workload
from simulator.world import World, simulate

PRODUCERS = 4
SEED = 1
FAULT_KINDS = ("isolate_leader", "mend")


class OfLeader(Random):
    """Chooses who leads."""

    def __init__(self, world: World) -> None:
        super().__init__(0)
        self._leader = image_of(world).topics["t"].partitions[0].leader

    def choice(self, nodes):  # type: ignore[no-untyped-def]
        return next(node for node in nodes if node.name == f"broker-{self._leader}")


class Pipelining(Workload):
    """Nobody else: what they lose is all that there is."""

    def start(self) -> None:
        for number in range(PRODUCERS):
            self.run(f"pipelining-{number}", lambda name: pipelining_producer(self.world, name, "t", 0, self.stop))


def sends_of_a_run(seed: int) -> list[Send]:
    """What became of them. :raises Breach: a rule was broken."""
    faults = tuple(Fault(3_000 + 12_000 * place, kind, place) for place, kind in enumerate(FAULT_KINDS))
    plan = replace(draw(seed), brokers=3, topics=(Topic("t", 1, 3, {}),), faults=faults, delays_ms=(0.2, 0.5, 5.0))

    async def main(world: World) -> list[Send]:
        whole = Run(world, plan)
        whole.workload = Pipelining(world, plan.workload)
        await whole.go()
        return world.ledger.sends

    return simulate(seed, main, brokers=plan.brokers)


@pytest.fixture(autouse=True)
def isolation_of_leaders() -> Iterator[None]:
    with patch.dict(FAULTS, {"isolate_leader": lambda world, _: isolate(world, OfLeader(world))}):
        yield


def test_rule_17_nothing_is_acked_with_a_batch_that_came_to_a_new_leader_before_it() -> None:
    sends = sends_of_a_run(SEED)
    assert len(sends) > 50
    assert all(send.acked_s is not None for send in sends)


def test_rule_17_where_a_new_leader_takes_any_sequence_records_are_lost_and_that_is_seen() -> None:
    """So the run above is one in which it matters. What a seed stands for changes with the code: one of these does."""
    mutant = next(each for each in MUTANTS if each.name == "unknown_producer_begins_anywhere")
    found = []
    # The oracle that looks at each append would say so sooner.
    with mutant.planted(), patch("simulator.oracles.log_oracle.LogOracle._check_sequence"):
        for seed in range(SEED, SEED + 20):
            try:
                sends_of_a_run(seed)
            except Breach as breach:
                found.append(str(breach))
                break
    assert re.match(r"rule 3: .* was acked to pipelining-.*, and is nowhere in t-0", "".join(found))
