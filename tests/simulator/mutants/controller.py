"""Wrong decisions of the controllers: ISR changes, elections, registrations, reassignments."""

from __future__ import annotations

from typing import Final

from klamm.broker.replication.leader import LeaderState
from klamm.cluster.partition import PartitionImage
from klamm.controller import brokers, state
from klamm.controller.alter_partition import _AlterPartition
from klamm.controller.election import PartitionChange, _Target
from simulator.mutants.mutant import Mutant, Rewrite, rewrite

UNCHECKED: Final[tuple[Rewrite, ...]] = (
    rewrite(state, "_check_isr", ("for member in partition.isr:", "for member in ():")),
    rewrite(PartitionImage, "check", ("if problem is not None:", "if False:")),
)
"""The state machine holds what was decided against the rules, and refuses what breaks one. These mutants go past it."""

MUTANTS: Final = (
    Mutant(
        "stale_alter_partition_accepted",
        "The controller takes an ISR change that was made from an older state of the partition.",
        "rule 11, KIP-497: the partition epoch fences it",
        (9, 11, 5, 3),
        (
            rewrite(
                _AlterPartition,
                "_error",
                ("if entry.partition_epoch < partition.partition_epoch:", "if False:"),
            ),
        ),
        prefer=("operator",),
    ),
    Mutant(
        "isr_of_an_old_incarnation",
        "Neither leader nor controller asks whether an ISR member fetches as the process that is registered now.",
        "KIP-903: a broker that came back with less is counted by what it had before",
        (7, 19, 3),
        (
            rewrite(
                _AlterPartition,
                "_may_be_in_isr",
                ("or member.broker_epoch not in (NONE_ID, broker.broker_epoch)", ""),
            ),
            rewrite(
                LeaderState,
                "_eligible",
                (
                    "self._active_brokers.get(follower.broker_id) == follower.broker_epoch",
                    "follower.broker_id in self._active_brokers",
                ),
            ),
        ),
        prefer=("power", "kills"),
    ),
    Mutant(
        "fenced_broker_in_isr",
        "A broker that is fenced or leaves may join an ISR.",
        "rule 7, KIP-841",
        (7,),
        (
            *UNCHECKED,
            rewrite(
                _AlterPartition,
                "_may_be_in_isr",
                ("return broker.active or (self._leaving and broker.broker_id == self._sender)", "return True"),
            ),
            rewrite(LeaderState, "_eligible", ("follower.broker_epoch is not None and", "True or")),
        ),
        prefer=("network",),
    ),
    Mutant(
        "elect_out_of_isr",
        "Where nobody in the ISR is there, any replica is elected, though nobody asked for that.",
        "rule 3: an election outside of the ISR loses what was acked",
        (3, 7),
        (rewrite(PartitionChange, "_elect", ("if self.election is Election.UNCLEAN:", "if True:")),),
        prefer=("kills",),
    ),
    Mutant(
        "eligible_leaders_ignored",
        "The controller keeps no eligible leader replicas.",
        "KIP-966: where the last of the ISR has gone nobody can be elected any more",
        (0,),
        (rewrite(PartitionChange, "_set_elr", ("elr = self.partition.eligible_leader_replicas", "return")),),
        prefer=("kills",),
    ),
    Mutant(
        "eligible_leaders_never_dropped",
        "Who left the ISR stays eligible although the ISR is large enough for the high watermark to move on.",
        "KIP-966: it lacks what was committed since",
        (3,),
        (
            rewrite(
                PartitionChange,
                "_set_elr",
                ("if len(target.isr) >= self._min_insync_replicas(target):", "if False:"),
            ),
        ),
        prefer=("kills",),
    ),
    Mutant(
        "stays_in_isr_after_unclean_stop",
        "A broker that registers anew stays in the ISRs in which its last process was.",
        "rule 19",
        (19, 7, 3),
        (rewrite(brokers, "_records_of_new_incarnation", ("return _change_partitions(image, change)", "return []")),),
        prefer=("power", "kills"),
    ),
    Mutant(
        "unclean_stop_trusted",
        "A broker that lost power stays eligible for what it may have lost.",
        "rule 19, KIP-966",
        (19, 3),
        (
            rewrite(
                brokers,
                "_records_of_new_incarnation",
                ("clean or whole or (same_disk and not others)", "True"),
            ),
        ),
        prefer=("power", "kills"),
    ),
    Mutant(
        "leader_epoch_stands_still",
        "An election does not raise the leader epoch.",
        "rule 1",
        (1,),
        (
            rewrite(
                PartitionChange,
                "build",
                ("old.leader_epoch + bump", "old.leader_epoch"),
            ),
            rewrite(
                PartitionImage,
                "check_follows",
                ("previous.leader_epoch + (self.leader != previous.leader)", "previous.leader_epoch"),
            ),
        ),
    ),
    Mutant(
        "reassignment_ends_too_early",
        "A reassignment drops the old replicas before the new ones are in sync.",
        "KIP-455",
        (8, 3, 7, 0),
        (
            rewrite(
                _Target,
                "complete_reassignment",
                (
                    "isr = tuple(member for member in self.isr if member not in self.removing_replicas)",
                    "isr = self.target_replicas",
                ),
            ),
        ),
        prefer=("operator",),
    ),
    Mutant(
        "producer_ids_given_twice",
        "Every broker gets the same block of producer ids.",
        "rule 17: two producers with one id take each other for duplicates",
        (17, 3),
        (
            rewrite(
                state,
                "decide_allocate_producer_ids",
                ("return ControllerResult((record,),", "return ControllerResult((),"),
            ),
        ),
    ),
)
