"""A classic group under random faults. A failure prints its seed; `KLAMM_SEED=n` runs that one alone."""

from __future__ import annotations

import os

import pytest
from simulation.classic_groups import World

ONE_SEED = os.environ.get("KLAMM_SEED")
SEEDS = range(int(os.environ.get("KLAMM_SEEDS", "150"))) if ONE_SEED is None else [int(ONE_SEED)]
SETTLE_MS = 120_000


@pytest.mark.parametrize("seed", SEEDS)
def test_rule_22_no_partition_has_two_owners_in_one_generation_under_random_faults(seed: int) -> None:
    world = World(seed)
    for _ in range(world.random.randint(5, 40)):
        world.run(world.random.choice((5, 20, 200, 2_000, 8_000)))
        world.trouble()
    world.heal()
    for _ in range(SETTLE_MS // 1_000):
        world.run(1_000)
        if world.is_settled():
            break
    assert world.is_settled(), "the group does not come to rest"
    world.oracles.finish()
    assert world.oracles.taken_up
