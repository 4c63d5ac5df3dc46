from __future__ import annotations

from random import Random

from klamm.client.backoff import Backoff


def test_short_at_first_then_doubling_up_to_the_limit() -> None:
    backoff = Backoff(Random(1), initial_ms=20, max_ms=500, patience=3)
    waits = [backoff.next_ms() for _ in range(12)]
    assert all(16 <= wait <= 24 for wait in waits[:3])
    assert 32 <= waits[3] <= 48
    assert all(400 <= wait <= 600 for wait in waits[9:])


def test_a_success_makes_it_short_again() -> None:
    backoff = Backoff(Random(1), initial_ms=20, max_ms=500, patience=0)
    for _ in range(10):
        backoff.next_ms()
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next_ms() <= 48
