"""Wrong replication: high watermark, ISR, epochs, and what a follower does with what it is told."""

from __future__ import annotations

from typing import Final

from klamm.broker import partition as partition_module
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.partition import Partition
from klamm.broker.replica_manager import ReplicaManager
from klamm.broker.replication import leader_session
from klamm.broker.replication.command_sender import CommandSender
from klamm.broker.replication.isr import IsrState
from klamm.broker.replication.leader import LeaderState
from klamm.broker.replication.leader_session import LeaderSession
from simulator.mutants.mutant import Mutant, rewrite

_REVERT: Final = """try:
        response = await asyncio.wait_for(self._submit(command), 0.05)
    except TimeoutError:
        from klamm.broker.replication.isr import IsrState

        for item in asked:
            if hasattr(item, "proposal"):
                before = item.leader.state.isr
                item.leader.state.isr = IsrState.settled(before.committed, before.partition_epoch)
        return True"""
"""The time-out of the real one is 10 s, in which it asks again and again: longer than most faults last."""

MUTANTS: Final = (
    Mutant(
        "ack_before_high_watermark",
        "The leader acks acks=all once the batch is in its own log.",
        "rule 3: what is acked is on every replica in sync",
        (3,),
        (
            rewrite(
                ReplicaManager,
                "_append",
                ("if acks != ACKS_ALL or partition.high_watermark >= required:", "if True:"),
            ),
        ),
    ),
    Mutant(
        "truncate_to_high_watermark",
        "A follower of a new leader epoch cuts its log at its own high watermark instead of where epochs diverge.",
        "KIP-101: the follower's high watermark lags, so this cuts off what is committed",
        (12, 3),
        (
            rewrite(
                Partition,
                "follow",
                (
                    "self._resign(ErrorCode.NOT_LEADER_OR_FOLLOWER)",
                    "self._resign(ErrorCode.NOT_LEADER_OR_FOLLOWER); self._truncate_to(self.high_watermark)",
                ),
            ),
        ),
    ),
    Mutant(
        "high_watermark_over_committed_isr",
        "The high watermark does not wait for a replica whose joining of the ISR is proposed and not committed yet.",
        "KIP-497: the controller may have committed the expansion already",
        (5, 3),
        (
            rewrite(
                LeaderState,
                "_high_watermark_effects",
                (
                    "follower.broker_id in maximal or self._waits_for(follower, now_ms)",
                    "follower.broker_id in self.isr.committed",
                ),
            ),
        ),
    ),
    Mutant(
        "expand_without_epoch_start",
        "A replica joins the ISR with its log end past the high watermark, though before the leader epoch's begin.",
        "KAFKA-7128: a new leader's high watermark lags behind what was committed",
        (8, 3),
        (
            rewrite(
                LeaderState,
                "_may_join",
                ("or follower.log_end_offset < self.leader_epoch_start_offset", ""),
            ),
        ),
    ),
    Mutant(
        "shrink_counts_when_proposed",
        "The leader stops waiting for a follower when it asks to have it taken out of the ISR, not when that is so.",
        "rule 9, KIP-497: until the controller has committed it, that follower may be elected",
        (5, 9, 3),
        (
            rewrite(
                IsrState,
                "propose",
                ("proposal.isr if grows else self.committed)", "proposal.isr)"),
            ),
            rewrite(LeaderState, "_high_watermark_effects", (" or self._waits_for(follower, now_ms)", "")),
        ),
    ),
    Mutant(
        "revert_on_time_out",
        "An ISR change whose outcome is not known is taken back.",
        "rule 9, KIP-497: the controller may have committed it",
        (5, 9, 3),
        (
            rewrite(
                CommandSender,
                "_send_some",
                ("response = await self._submit_until_answered(command, broker_epoch)", _REVERT),
            ),
            rewrite(LeaderState, "_high_watermark_effects", (" or self._waits_for(follower, now_ms)", "")),
        ),
        prefer=("kills", "network"),
    ),
    Mutant(
        "min_isr_ignored",
        "The high watermark moves, and acks=all is taken, however few are in sync.",
        "rule 6, KIP-966",
        (6, 3),
        (
            rewrite(LeaderState, "under_min_isr", ("len(self.isr.committed) < self.min_isr", "False")),
            rewrite(LeaderState, "_high_watermark_effects", (" or len(self.isr.committed) < self.min_isr", "")),
        ),
    ),
    Mutant(
        "serve_past_high_watermark",
        "Consumers get all that is in the leader's log.",
        "rule 4",
        (4,),
        (
            rewrite(
                ReplicaManager,
                "_read_one",
                (
                    "request.fetch_offset >= partition.high_watermark or",
                    "request.fetch_offset >= partition.log.log_end_offset or",
                ),
                ("end_offset=partition.high_watermark", "end_offset=partition.log.log_end_offset"),
            ),
        ),
    ),
    Mutant(
        "deposed_leader_sends_readers_back",
        "A leader says that an offset past its log end is out of range without making sure that it still leads.",
        "rule 15: its successor has that offset, and the reader begins anew",
        (15,),
        (
            rewrite(
                ReplicaManager,
                "_read_one",
                ("and (request.topic, request.partition, leader.leader_epoch) not in fetch.confirmed", "and False"),
            ),
        ),
        prefer=("network", "pauses"),
    ),
    Mutant(
        "new_leader_trusts_its_log",
        "A new leader takes all that is in its log for committed.",
        "rule 13: it may hold what no other replica has",
        (5, 13, 4),
        (
            rewrite(
                Partition,
                "_begin_leadership",
                (
                    "self.leader_id = image.leader",
                    "self.leader_id = image.leader; self.high_watermark = self.log.log_end_offset",
                ),
            ),
        ),
    ),
    Mutant(
        "epoch_not_written_down",
        "A new leader does not note where its epoch begins.",
        "rule 13, KIP-101: a follower of another history asks, and is told that it agrees",
        (13, 14, 2),
        (
            rewrite(
                Partition,
                "_begin_leadership",
                ("self.log.assign_epoch(image.leader_epoch, self.log.log_end_offset)", "pass"),
            ),
            rewrite(
                PartitionLog,
                "append_as_leader",
                ("self._epochs.assign(leader_epoch, base_offset)", "pass"),
            ),
        ),
    ),
    Mutant(
        "divergence_not_looked_for",
        "The leader does not hold a follower's last epoch against its own history.",
        "KIP-320: the follower goes on behind batches that the leader never had",
        (2, 5, 3),
        (
            rewrite(
                leader_session,
                "_error_or_divergence",
                ("if position.last_fetched_epoch is not None:", "if False:"),
            ),
        ),
    ),
    Mutant(
        "fetch_epoch_not_fenced",
        "A leader takes a follower's position of another leader epoch, and answers it.",
        "rule 11, KIP-320",
        (11, 5, 3),
        (
            rewrite(LeaderSession, "_leader_for", (" or partition.leader_epoch != position.leader_epoch", "")),
            rewrite(
                LeaderSession,
                "_refusal",
                ("epoch is None or epoch < position.leader_epoch", "False"),
                ("epoch > position.leader_epoch", "False"),
            ),
            rewrite(partition_module, "decide", ("answer.leader_epoch != leader_epoch", "False")),
        ),
    ),
)
