"""Random faults over many seeds: Raft's promises hold. A failure names its seed; `KLAMM_SEED=n` runs that one alone."""

from __future__ import annotations

import os

import pytest
from harness.raft_network import RaftNetwork

SEEDS_A_TEST = 25
SEEDS = 300


def seeds(block: int) -> range:
    wanted = os.environ.get("KLAMM_SEED")
    if wanted is not None:
        return range(int(wanted), int(wanted) + 1)
    return range(block * SEEDS_A_TEST, (block + 1) * SEEDS_A_TEST)


def play(seed: int) -> RaftNetwork:
    """Some seconds of a quorum under random faults, then peace."""
    network = RaftNetwork(seed, nodes=5 if seed % 7 == 0 else 3)
    random = network.random
    for node_id in network.voters:
        network.start(node_id)
    number = 0
    for _ in range(random.randrange(20, 60)):
        fault(network)
        for _ in range(random.randrange(6)):
            number += 1
            network.propose(f"c{number}", random.choice([None, None, random.choice(network.voters)]))
            network.run(random.randrange(10))
        network.run(random.randrange(120))
    network.settle()
    return network


def fault(network: RaftNetwork) -> None:
    random = network.random
    node_id = random.choice(network.voters)
    controller = network.controllers[node_id]
    match random.randrange(14):
        case 0:
            network.cut_off(node_id)
        case 1:
            network.cut.add((node_id, random.choice(network.voters)))
        case 2 | 3:
            network.heal()
        case 4:
            network.drop, network.duplicate = random.choice((0.0, 0.1, 0.3)), random.choice((0.0, 0.3))
            network.delay = random.choice((0.0, 0.1, 0.3))
        case 5 | 6 if controller.alive:
            network.kill(node_id, power=random.random() < 0.5)
        case 7 if controller.alive:
            controller.disk.crash_after = random.randrange(12)
        case 8 | 9 | 10 | 11 if not controller.alive:
            network.start(node_id)
        case 12 if all(network.has_its_past(voter) for voter in network.voters):
            network.wipe(node_id)
            network.readmit(node_id)
            if random.random() < 0.5:
                network.start(node_id)
        case _:
            pass


@pytest.mark.parametrize("block", range(SEEDS // SEEDS_A_TEST))
def test_random_faults(block: int) -> None:
    for seed in seeds(block):
        try:
            play(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}: run KLAMM_SEED={seed} pytest {__file__}")
            raise


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = play(3), play(3)
    assert (first.messages, first.clock.now_ms, first.acked) == (second.messages, second.clock.now_ms, second.acked)
