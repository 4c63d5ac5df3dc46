"""Planted bugs: the simulator has to find every one of them, or it has a hole (`python -m simulator.mutants`)."""

from __future__ import annotations

from typing import Final

from simulator.mutants import clients, controller, groups, lifecycle, log, quorum, replication
from simulator.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *replication.MUTANTS,
    *log.MUTANTS,
    *controller.MUTANTS,
    *quorum.MUTANTS,
    *groups.MUTANTS,
    *lifecycle.MUTANTS,
    *clients.MUTANTS,
)
"""All of them, in the order of the table."""

__all__ = ["MUTANTS", "Mutant"]
