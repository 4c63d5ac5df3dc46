"""A wrong client: what the SDK's producer must not do, for brokers cannot make good for it."""

from __future__ import annotations

from typing import Final

from klamm.client.partition_queue import PartitionQueue
from simulator.mutants.mutant import Mutant, rewrite

MUTANTS: Final = (
    Mutant(
        "window_forgets_what_was_acked",
        "The SDK's window of five batches counts those in flight, not from the oldest without an answer.",
        "rule 17: the leader no longer knows the oldest when it comes again, refuses it, and gets it as a new one",
        (17,),
        (rewrite(PartitionQueue, "may_send", ("self._place_of(self.waiting[0]) - self.in_flight[0].place", "0")),),
    ),
)
