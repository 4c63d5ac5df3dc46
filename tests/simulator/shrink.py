"""Makes a failing plan shorter: leaves faults out as long as the run still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable

from simulator.run import Outcome, run_plan
from simulator.schedule import Plan


def kind_of(error: BaseException | None) -> str:
    """What two failures must have in common to be one: the rule, or the type and the first words."""
    if error is None:
        return ""
    rule = getattr(error, "rule", None)
    return f"rule {rule}" if rule is not None else f"{type(error).__name__} {str(error)[:12]}"


def shrink(outcome: Outcome, *, runs_max: int = 60, run: Callable[[Plan], Outcome] = run_plan) -> Outcome:
    """The failure with the fewest faults that was found within `runs_max` runs; the plan's numbers stay as they are."""
    wanted = kind_of(outcome.error)
    best, runs = outcome, 0
    size = len(best.plan.faults) // 2
    while size and runs < runs_max:
        place = 0
        while place < len(best.plan.faults) and runs < runs_max:
            runs += 1
            tried = run(best.plan.without(frozenset(range(place, place + size))))
            if kind_of(tried.error) == wanted:
                best = tried
            else:
                place += size
        size //= 2
    return best
