"""Histories at random: what a correct log gives is fine, and what was spoilt in it is found by its name."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from harness.history import Entry
from harness.history_checker import check
from harness.history_findings import AnomalyName
from harness.history_model import ModelCampaign
from harness.history_mutations import MUTATIONS, Mutation
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)


def _history(seed: int, steps: int, partitions: int, processes: int) -> list[Entry]:
    return ModelCampaign(Random(seed), partitions=partitions, processes=processes).run(steps)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, steps=st.integers(0, 300), partitions=st.integers(1, 4), processes=st.integers(1, 6))
def test_a_correct_log_shows_no_anomaly(seed: int, steps: int, partitions: int, processes: int) -> None:
    verdict = check(_history(seed, steps, partitions, processes))
    assert verdict.anomalies == ()
    assert verdict.ok


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, steps=st.integers(20, 200))
def test_what_is_spoilt_is_found(mutation: Mutation, seed: int, steps: int) -> None:
    spoilt = mutation(_history(seed, steps, 2, 3), Random(seed))
    if spoilt is not None:
        assert check(spoilt).counts[MUTATIONS[mutation]] > 0


def test_each_spoils_most_histories() -> None:
    """So that the test above says something."""
    spoilt: Counter[Mutation] = Counter()
    for seed in range(20):
        history = _history(seed, 200, 2, 3)
        spoilt.update(mutation for mutation in MUTATIONS if mutation(history, Random(seed)) is not None)
    assert {mutation.__name__: spoilt[mutation] for mutation in MUTATIONS if spoilt[mutation] <= 10} == {}


def test_every_anomaly_is_spoilt_for() -> None:
    internal = AnomalyName.INTERNAL_NONMONOTONIC_SEND  # by hand in test_history_checker.py
    committed = AnomalyName.COMMITTED_DIFFERS  # by hand in test_history_compacted.py
    assert set(AnomalyName) - set(MUTATIONS.values()) == {internal, committed}
