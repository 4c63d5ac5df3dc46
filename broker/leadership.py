"""Makes sure that a leadership is still one before something is told that must not be out of date.

Produces need none of this: their ack takes every replica in sync. It is for what a leader merely tells: that an offset
is out of range (a consumer that hears it from a leader long replaced begins anew), and which offsets are committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from .leader_replica import LeaderReplica

CONFIRMATION_TIMEOUT_MS: Final = 5_000
"""A follower that hangs is taken out of the ISR, or fenced, about as soon."""
UNDER_MIN_ISR_TIMEOUT_MS: Final = 500


async def still_leads(leader: LeaderReplica, in_touch: Callable[[], bool]) -> bool:
    """True if nobody else had begun to lead when this was called; False if somebody had, or if nobody can tell.

    With fewer in sync than min.insync.replicas all replicas would have to confirm it, and most likely some are down.
    Then, after a short wait, `in_touch` is asked: whether the controllers have just said that this broker is alive.
    """
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def done(leads: bool) -> None:
        if not future.done():
            future.set_result(leads)

    leader.confirm(done)
    timeout_ms = UNDER_MIN_ISR_TIMEOUT_MS if leader.state.under_min_isr else CONFIRMATION_TIMEOUT_MS
    try:
        if not future.done():
            await asyncio.wait((future,), timeout=timeout_ms / 1000)
        if future.done():
            return future.result()
        return leader.state.under_min_isr and in_touch()
    finally:
        leader.confirm_no_more(done)
