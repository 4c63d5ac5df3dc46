"""Wrong groups: offsets that are lost, and partitions with two owners."""

from __future__ import annotations

from typing import Final

from klamm.broker.groups import shard_loader
from klamm.broker.groups.classic_group import ClassicGroup
from klamm.broker.groups.coordinator import GroupCoordinator
from klamm.broker.groups.group_log import PartitionGroupLog
from klamm.broker.groups.rebalance import Rebalance
from simulator.mutants.mutant import Mutant, rewrite

MUTANTS: Final = (
    Mutant(
        "commit_acked_before_replicated",
        "An offset commit is acked when it is in the coordinator's own log.",
        "rule 21",
        (21,),
        (rewrite(PartitionGroupLog, "append", ("if future.done():\n", "if True:\n")),),
    ),
    Mutant(
        "commit_without_leader_epoch",
        "A coordinator goes on as long as its broker leads the partition, in whatever leader epoch.",
        "rule 21: what another coordinator has taken meanwhile is not seen",
        (21, 22),
        (
            rewrite(PartitionGroupLog, "_led", ("or replica.leader_epoch != self._leader_epoch", "")),
            rewrite(
                PartitionGroupLog,
                "append",
                ("current_leader_epoch=self._leader_epoch", "current_leader_epoch=None"),
            ),
            rewrite(GroupCoordinator, "_leads", (" and partition.leader_epoch == shard.log.leader_epoch", "")),
        ),
        prefer=("disks",),
    ),
    Mutant(
        "coordinator_does_not_load",
        "A new coordinator begins without having read the log.",
        "rule 21",
        (21, 22),
        (
            rewrite(
                shard_loader,
                "_load",
                ("            for record in records:\n                replay.replay(record)", "            pass"),
            ),
        ),
        prefer=("kills",),
    ),
    Mutant(
        "coordinator_shows_what_may_be_lost",
        "A new coordinator serves what is in its log before every replica in sync has it.",
        "rule 21: an offset is seen, and then it is another one",
        (21,),
        (
            rewrite(
                shard_loader,
                "_load",
                ("error = await shard.log.committed(end_offset, _COMMIT_WAIT_MS)", "error = ErrorCode.NONE"),
            ),
        ),
    ),
    Mutant(
        "deposed_coordinator_tells_offsets",
        "A coordinator tells committed offsets without making sure that it has not been replaced.",
        "rule 21: its successor has acked later ones",
        (21,),
        (rewrite(GroupCoordinator, "fetch_offsets", ("not await shard.log.still_leads() or ", "")),),
        prefer=("network", "pauses"),
    ),
    Mutant(
        "old_generation_accepted",
        "A member of an earlier generation may sync, beat and commit.",
        "rule 22, and rule 21 for the generation at hand",
        (21, 22),
        (
            rewrite(ClassicGroup, "_check_member", ("request.generation_id == rebalance.generation_id", "True")),
            rewrite(ClassicGroup, "check_offset_commit", ("generation_id != rebalance.generation_id", "False")),
        ),
        prefer=("clients",),
    ),
    Mutant(
        "second_assignment_accepted",
        "In one generation a later assignment takes the place of the first.",
        "rule 22",
        (22,),
        (rewrite(Rebalance, "take_assignment", ("if self._assigned_generation == self.generation_id:", "if False:")),),
        prefer=("clients",),
    ),
)
