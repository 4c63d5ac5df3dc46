"""A broker that comes or goes in the wrong way."""

from __future__ import annotations

from typing import Final

from klamm.broker.lifecycle import BrokerLifecycle
from klamm.broker.replica_manager import ReplicaManager
from klamm.broker.server import BrokerServer
from klamm.controller import sessions, state
from simulator.mutants.controller import UNCHECKED
from simulator.mutants.mutant import Mutant, rewrite

MUTANTS: Final = (
    Mutant(
        "unfenced_before_metadata",
        "A broker asks to be unfenced when it has registered, and is, before it has replayed the metadata.",
        "rule 20, KIP-631",
        (20, 7),
        (
            rewrite(BrokerLifecycle, "_send", ("want_fence=not self._ready_to_unfence", "want_fence=False")),
            rewrite(
                sessions,
                "_caught_up",
                (
                    "session.metadata_end_offset is not None and session.metadata_end_offset > broker.broker_epoch",
                    "True",
                ),
            ),
        ),
    ),
    Mutant(
        "serves_before_metadata",
        "A broker does not wait for the metadata when it starts.",
        "rules 20 and 24: it takes all that it holds for unknown",
        (20, 24, 3, 0),
        (
            rewrite(
                BrokerServer,
                "_join_cluster",
                ("if not await self._metadata.wait_for(registered, METADATA_TIMEOUT_MS):", "if False:"),
            ),
        ),
        prefer=("kills",),
    ),
    Mutant(
        "leaves_without_hand_over",
        "A broker that is told to stop does so at once, and keeps its leaderships until it is missed.",
        "rule 26",
        (26,),
        (
            rewrite(
                BrokerServer,
                "stop",
                ("await self._lifecycle.controlled_shutdown(self._config.controlled_shutdown_timeout_ms)", "pass"),
            ),
        ),
        prefer=("operator",),
    ),
    Mutant(
        "leaves_and_stays_in_isr",
        "A controlled shutdown moves leaderships, and leaves the broker in the ISRs.",
        "rule 26, KIP-841",
        (26, 7),
        (
            rewrite(
                state,
                "decide_controlled_shutdown",
                ("isr = tuple(member for member in partition.isr if member != broker_id)", "isr = partition.isr"),
            ),
            *UNCHECKED,
        ),
        prefer=("operator",),
    ),
    Mutant(
        "stale_epoch_produce_taken",
        "A produce under another leader epoch than the leader's is appended.",
        "rule 15, KIP-320",
        (15, 21),
        (
            rewrite(
                ReplicaManager,
                "_leading",
                ("if current_leader_epoch is not None and partition.leader_epoch is not None:", "if False:"),
            ),
        ),
        prefer=("kills", "network"),
    ),
)
