"""What a client of the soak counts by itself."""

from __future__ import annotations

import time

from soak.client import AS_FAST_AS_IT_CAN, BEHIND_S_MAX, NUMBER_BYTES, Counts, Pace, Reading


def value(number: int) -> bytes:
    return number.to_bytes(NUMBER_BYTES, "big") + b"padding"


def test_what_was_read_is_kept_as_runs() -> None:
    counts = Counts()
    reading = Reading(counts)
    for number in (0, 1, 2, 5, 6, 6):
        reading.take("t", 1, value(number))
    reading.take("s", 0, value(0))
    assert reading.told() == {"runs": [["s", 0, [[0, 1]]], ["t", 1, [[0, 3], [5, 7], [6, 7]]]]}
    assert counts.done == 7


def test_a_pace_makes_up_for_no_long_stall() -> None:
    pace = Pace()
    pace._sent_to = time.monotonic() - 100
    assert round(pace.due(1000.0), -1) == 1000 * BEHIND_S_MAX
    assert pace.due(0.0) == 0
    assert pace.due(AS_FAST_AS_IT_CAN) > 0


def test_complaints_are_bounded() -> None:
    counts = Counts()
    for number in range(1000):
        counts.complain(f"complaint {number}")
    assert counts.complaints[0] == "complaint 0"
    assert len(counts.complaints) == 20
