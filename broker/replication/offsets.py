"""The offsets of one replica and how they move: log start, high watermark, last stable offset, log end.

    log_start_offset <= high_watermark <= log_end_offset

An end offset is the next one to be written. The high watermark is the end of what is committed: a leader derives it
from its followers' log ends, a follower hears of it. It never falls while a replica keeps its role (rule 4). Pure.
"""

from __future__ import annotations

from typing import Final

from ...cluster.invariant import invariant
from ...proto.identifiers import Offset

UNKNOWN_OFFSET: Final = Offset(-1)
"""Log end of a follower that a leader has not heard from in its epoch: below every offset, so nothing is committed."""


def check_order(log_start_offset: int, high_watermark: int, log_end_offset: int) -> None:
    """:raises InvariantError: if the three do not stand in their order."""
    if not log_start_offset <= high_watermark <= log_end_offset:
        invariant(
            False,
            f"offsets out of order: start {log_start_offset}, high watermark {high_watermark}, end {log_end_offset}",
        )


def follower_high_watermark(current: Offset, leaders: Offset, log_end_offset: Offset) -> Offset:
    """What a follower takes for committed: the leader's word as far as its own log reaches, never less than before."""
    return max(current, min(leaders, log_end_offset))
