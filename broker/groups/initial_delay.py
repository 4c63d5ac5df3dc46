"""How long the first rebalance of an empty group waits for more members (KIP-134). Pure.

`group.initial.rebalance.delay.ms`, again and again while members arrive, but in all no longer than their rebalance
time-out. Then, unlike Kafka, a moment for clients that were just told their member ids (KIP-394) and are on their way
back: Kafka's delay is 3 s, so it need not care; with ours of 0 this lets consumers that start together begin
together, instead of one by one with a rebalance each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PENDING_GRACE_MS: Final = 500


@dataclass(slots=True)
class InitialDelay:
    """The wait of one first rebalance; times are the clock's monotonic time in ms."""

    delay_ms: int  # of the round under way
    remaining_ms: int  # for further rounds
    deadline_ms: int
    member_added: bool = False  # in this round
    waits_for_pending: bool = False  # the delay is over, the moment after it is not

    @classmethod
    def begin(cls, delay_ms: int, rebalance_timeout_ms: int, now_ms: int) -> InitialDelay:
        return cls(delay_ms, max(rebalance_timeout_ms - delay_ms, 0), now_ms + delay_ms)

    def is_over(self, now_ms: int, *, any_pending: bool, round_ms: int) -> bool:
        """Called at the deadline, and while `waits_for_pending`. False: there is a new deadline."""
        if self.waits_for_pending:
            return not any_pending or now_ms >= self.deadline_ms
        if self.member_added and min(self.delay_ms, self.remaining_ms) > 0:
            self.member_added = False
            before, self.delay_ms = self.delay_ms, min(round_ms, self.remaining_ms)
            self.remaining_ms = max(self.remaining_ms - before, 0)
            self.deadline_ms = now_ms + self.delay_ms
            return False
        if any_pending:
            self.waits_for_pending = True
            self.deadline_ms = now_ms + PENDING_GRACE_MS
            return False
        return True
