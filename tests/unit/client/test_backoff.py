from __future__ import annotations

from random import Random

from klamm.client.backoff import Backoff, wait_after_ms


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


def test_a_first_wait_beyond_the_limit_is_kept() -> None:
    # retry_backoff_ms is the user's: 2,000 ms is 2,000 ms, however often it failed.
    assert all(1600 <= wait_after_ms(failures, Random(1), initial_ms=2000) <= 2400 for failures in (1, 50, 10_000))


def test_no_wait_asked_for_is_none() -> None:
    assert wait_after_ms(1, Random(1), initial_ms=0) == 0
    assert wait_after_ms(100, Random(1), initial_ms=0) == 0
