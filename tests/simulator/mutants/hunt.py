"""Plants a mutant and runs seed after seed until a rule is seen broken that the same seed keeps without it."""

from __future__ import annotations

import logging
import signal
import time
from typing import Final, NamedTuple

from simulator.mutants.mutant import Mutant

_CPU_S_MAX: Final = 60
"""A run takes about one second. One that stands still in simulated time would never end."""


class Caught(NamedTuple):
    """What became of one mutant."""

    mutant: str
    rule: str  # "": none of the seeds found it
    text: str  # what the oracle said
    seed: int  # of the run that found it; the last one where none did
    seeds: int  # how many it took
    cpu_s: float
    bad_twins: int  # seeds that failed without the mutant too, and so count for nothing
    profiles: tuple[str, ...]


class Endless(KeyboardInterrupt):
    """A run that takes too long: of this kind because an event loop lets that through."""


def hunt(mutant: Mutant, seeds: range) -> Caught:
    """Until it is caught, or there are no more seeds."""
    began, bad_twins, seed, done = time.process_time(), 0, seeds.start, 0
    for seed in seeds:
        done += 1
        error = _failure(mutant, seed)
        if error is None:
            continue
        if _failure(None, seed, mutant.prefer) is not None:
            bad_twins += 1
            continue
        rule, text = error
        return Caught(mutant.name, rule, text, seed, done, time.process_time() - began, bad_twins, mutant.prefer)
    return Caught(mutant.name, "", "", seed, done, time.process_time() - began, bad_twins, mutant.prefer)


def _failure(mutant: Mutant | None, seed: int, prefer: tuple[str, ...] = ()) -> tuple[str, str] | None:
    """Which rule a run was seen to break, and the words; None if it is well."""
    from simulator.run import run_plan
    from simulator.schedule import draw

    plan = draw(seed, prefer if mutant is None else mutant.prefer)
    signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, _CPU_S_MAX)
    try:
        if mutant is None:
            error = run_plan(plan).error
        else:
            with mutant.planted():
                error = run_plan(plan).error
    except Endless:
        return "liveness", f"the run did not end within {_CPU_S_MAX} s of CPU"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None if error is None else (_rule_of(error), str(error))


def _rule_of(error: BaseException) -> str:
    rule = getattr(error, "rule", None)
    if rule is not None:
        return f"rule {rule}"
    text = str(error)
    return "liveness" if text.startswith(("liveness", "waited")) else type(error).__name__


def _give_up(*_: object) -> None:
    raise Endless


def hunt_named(name: str, seeds: range) -> Caught:
    """In a worker."""
    from simulator.mutants import MUTANTS

    logging.disable(logging.CRITICAL)
    return hunt(next(mutant for mutant in MUTANTS if mutant.name == name), seeds)
