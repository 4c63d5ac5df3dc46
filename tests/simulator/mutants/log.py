"""Wrong logs: epochs, producers, recovery, retention, disks that fail, and compaction."""

from __future__ import annotations

from typing import Final

from klamm.broker import partition as partition_module
from klamm.broker.log import batch_filter, partition_log
from klamm.broker.log.flusher import Flusher
from klamm.broker.log.leader_epochs import LeaderEpochs
from klamm.broker.log.log_cleaner import LogCleaner
from klamm.broker.log.log_manager import LogManager
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.log.producer_state import ProducerStates
from klamm.broker.log.recovery import _Loader
from klamm.broker.partition import Partition
from klamm.broker.partitions import Partitions
from klamm.broker.replication import follower_session
from simulator.mutants.mutant import Mutant, rewrite

MUTANTS: Final = (
    Mutant(
        "epoch_cache_not_truncated",
        "The epoch cache keeps its entries when the log is cut.",
        "rule 14, KAFKA-10706",
        (14, 12, 2),
        (rewrite(LeaderEpochs, "truncate_from_end", ("if self._cache.truncate_from_end(end_offset):", "if False:")),),
    ),
    Mutant(
        "producers_forgotten_on_truncation",
        "A truncation forgets all producers, not only what was cut off of them.",
        "rule 17: the next leader takes a retry for something new",
        (17,),
        (
            rewrite(
                PartitionLog,
                "_truncate_to",
                (
                    "self._snapshots.state_at(self._segments, end_offset, trusted=end_offset)",
                    "type(self.producer_states)(end_offset)",
                ),
            ),
        ),
    ),
    Mutant(
        "producers_kept_on_truncation",
        "A truncation leaves the producers as they were before it.",
        "rule 17: the next leader takes what was cut off for a duplicate, and acks what is not there",
        (3, 17),
        (
            rewrite(
                PartitionLog,
                "_truncate_to",
                (
                    "self.producer_states = self._snapshots.state_at(self._segments, end_offset, trusted=end_offset)",
                    "self.producer_states.end_offset = end_offset",
                ),
            ),
        ),
    ),
    Mutant(
        "retry_taken_for_new",
        "A batch that is among the producer's last five is appended again.",
        "rule 17, KIP-98",
        (17,),
        (
            rewrite(
                ProducerStates,
                "check",
                ("return batch\n", "return None\n"),
            ),
        ),
    ),
    Mutant(
        "unknown_producer_begins_anywhere",
        "A leader takes any sequence from a producer that never wrote to its log, as Kafka does.",
        "rule 17: what was sent before it was lost with the last leader, and is acked with it",
        (3, 17),
        (rewrite(ProducerStates, "_check_unknown", ("or leader_epoch == 0", "or True")),),
        prefer=("network",),
    ),
    Mutant(
        "follower_state_without_producers",
        "A follower does not take note of the producers of what it copies.",
        "rule 17: the next leader takes a retry for something new",
        (17,),
        (rewrite(PartitionLog, "_append_run", ("if header.producer_id >= 0:", "if False:")),),
    ),
    Mutant(
        "follower_appends_at_a_wrong_offset",
        "A follower asks for what comes after its high watermark, and appends it at the end of its log.",
        "rules 2 and 11: an answer is held against the log as it is",
        (2, 3, 12, 18),
        (
            rewrite(
                follower_session,
                "_fill",
                (
                    "position.fetch_offset = log.log_end_offset",
                    "position.fetch_offset = max(log.log_start_offset, partition.high_watermark)",
                ),
            ),
            rewrite(partition_module, "decide", ("if answer.fetch_offset != log.log_end_offset:", "if False:")),
            rewrite(partition_log, "checked_headers", ("elif not reaches_over:", "elif False:")),
        ),
    ),
    Mutant(
        "high_watermark_checkpoint_unbounded",
        "After a restart a replica takes all of its log for committed, not what the checkpoint says.",
        "rules 4 and 13",
        (4, 5, 13),
        (
            rewrite(
                LogManager,
                "high_watermark",
                ("self._high_watermarks.get(log.topic_partition, log.log_start_offset)", "log.log_end_offset"),
            ),
        ),
    ),
    Mutant(
        "torn_batch_kept",
        "Recovery keeps the last batch of a log though only a part of it is there.",
        "rule 18",
        (18, 2),
        (
            rewrite(
                _Loader,
                "_recover_segment",
                (
                    "    segment.size = position\n",
                    "    from klamm.proto.record_batch import HEADER_SIZE, parse_header\n"
                    "    if position + HEADER_SIZE <= size:\n"
                    "        header = parse_header(segment.pread(position, HEADER_SIZE))\n"
                    "        expected, position, flaw = header.next_offset, size, ''\n"
                    "    segment.size = position\n",
                ),
            ),
        ),
        prefer=("power",),
    ),
    Mutant(
        "failed_append_acked",
        "A write that failed is passed over in silence.",
        "rule 27: an append that failed is never acked",
        (27, 3, 18),
        (
            rewrite(
                PartitionLog,
                "append_as_leader",
                ("    self._append_failed(error)", "    pass"),
            ),
        ),
        prefer=("disks",),
    ),
    Mutant(
        "retention_past_high_watermark",
        "Retention deletes segments that are not committed yet: the log start passes the high watermark.",
        "log start <= high watermark <= log end",
        (3, 5, 0),
        (
            rewrite(
                PartitionLog,
                "delete_old_segments",
                ("self.log_end_offset, high_watermark\n", "self.log_end_offset, self.log_end_offset\n"),
            ),
        ),
        prefer=("topics",),
    ),
    Mutant(
        "flush_without_sync",
        "The recovery point moves on without the disk being asked to keep what is below it.",
        "rule 18: what the recovery point vouches for is not looked at again",
        (18, 19, 3),
        (rewrite(Flusher, "_sync", ("await asyncio.to_thread(self._file_system.sync, descriptor)", "pass")),),
        prefer=("power",),
    ),
    Mutant(
        "clean_marker_without_flush",
        "A clean stop writes its marker without having brought the logs to the disk.",
        "rule 19: the marker vouches for what is not there after a loss of power",
        (19, 3, 18),
        (rewrite(PartitionLog, "close", ("self._flusher.flush_now(self.log_end_offset)", "pass")),),
        prefer=("power", "operator"),
    ),
    Mutant(
        "namesake_takes_the_folder",
        "A topic that is made again under a name takes the log that the topic of this name left.",
        "rule 24: another topic id, another log",
        (15, 24, 3),
        (
            rewrite(
                LogManager,
                "create",
                (
                    "self.set_aside(namesake)",
                    "log = self._logs.pop(namesake); self._logs[key] = log; "
                    "self._keys[topic_partition] = key; log.topic_id = topic_id; return log",
                ),
            ),
            rewrite(Partitions, "_remove", ("self._log_manager.delete(topic_id_partition)", "pass")),
        ),
        prefer=("topics",),
    ),
    Mutant(
        "unknown_logs_deleted",
        "A log of a topic that the metadata do not have is deleted at the start, not set aside.",
        "rule 24",
        (24,),
        (
            rewrite(
                Partitions, "set_aside_strays", ("self._log_manager.set_aside(key)", "self._log_manager.delete(key)")
            ),
        ),
        prefer=("topics",),
    ),
    Mutant(
        "compaction_drops_the_newest",
        "Compaction leaves out the newest record of a key as well.",
        "the last value of a key stays",
        (3,),
        (rewrite(batch_filter, "_choose", ("latest(key) > offset or", "latest(key) >= offset or")),),
        prefer=("topics",),
    ),
    Mutant(
        "compaction_moves_offsets",
        "Compaction closes the gaps of the records that it leaves out of a batch.",
        "offsets never change",
        (3, 2, 18),
        (
            rewrite(
                batch_filter,
                "_rewritten",
                ("record_count=kept.count(1),", "record_count=kept.count(1), last_offset_delta=kept.count(1) - 1,"),
            ),
        ),
        prefer=("topics",),
    ),
    Mutant(
        "tombstones_go_at_once",
        "Compaction removes a tombstone in the first cleaning that meets it.",
        "delete.retention.ms (KIP-534): a replica or reader that is behind keeps what was deleted",
        (3,),
        (rewrite(batch_filter, "_choose", ("has_horizon and rules.now_ms >= header.base_timestamp", "True")),),
        prefer=("topics",),
    ),
    Mutant(
        "compaction_past_high_watermark",
        "Compaction drops records for the sake of newer ones that are not committed yet.",
        "what is dropped must not come to be the newest again",
        (3,),
        (
            rewrite(
                LogCleaner,
                "cleanable",
                ("min(self._manager.high_watermark(key), log.recovery_point)", "log.log_end_offset"),
            ),
        ),
        prefer=("topics",),
    ),
    Mutant(
        "log_cut_below_what_was_cleaned",
        "A follower cuts a compacted log where records before the cut were dropped for the sake of what is cut off.",
        "the leader still has what was dropped: the replica must start over",
        (3, 2),
        (
            rewrite(
                Partition, "apply_leader_answer", ("self.electable or self.log.is_whole_below(action.offset):", "True:")
            ),
        ),
        prefer=("unclean",),
    ),
)
