"""The nemesis' plan is drawn from its seed alone, and has of everything."""

from __future__ import annotations

import itertools

import pytest
from chaos.nemesis import CUTS, FaultKind, draw_plan

TWO_MINUTES = 120.0


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    plan = draw_plan(seed, TWO_MINUTES, list(FaultKind))
    assert plan == draw_plan(seed, TWO_MINUTES, set(FaultKind)), "whatever the order of the kinds"
    assert plan != draw_plan(seed + 1, TWO_MINUTES, list(FaultKind))


@pytest.mark.parametrize("seed", range(50))
def test_two_minutes_have_of_every_kind(seed: int) -> None:
    plan = draw_plan(seed, TWO_MINUTES, list(FaultKind))
    assert {fault.kind for fault in plan} == set(FaultKind)


@pytest.mark.parametrize("seed", range(20))
def test_faults_are_numbered_begin_within_the_campaign_and_overlap(seed: int) -> None:
    plan = draw_plan(seed, TWO_MINUTES, list(FaultKind))
    assert [fault.number for fault in plan] == list(range(len(plan)))
    starts = [fault.start_s for fault in plan]
    assert starts == sorted(starts)
    assert starts[0] > 0 and starts[-1] < TWO_MINUTES
    assert any(one.start_s + one.duration_s > other.start_s for one, other in itertools.pairwise(plan))
    assert max(later - earlier for earlier, later in itertools.pairwise(starts)) >= 8, "there is a lull"


def test_only_what_can_be_done_is_planned() -> None:
    plan = draw_plan(1, 600.0, set(FaultKind) - CUTS)
    assert not {fault.kind for fault in plan} & CUTS
    assert draw_plan(1, 600.0, []) == []


def test_each_fault_has_a_seed_of_its_own() -> None:
    plan = draw_plan(1, 600.0, list(FaultKind))
    assert len({fault.seed for fault in plan}) == len(plan)
