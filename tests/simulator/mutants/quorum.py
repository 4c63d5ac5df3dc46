"""A wrong quorum: votes, journals, commits, snapshots, and what an active controller says before it may."""

from __future__ import annotations

from typing import Final

from klamm.broker.metadata_follower import MetadataFollower
from klamm.controller import raft_messages
from klamm.controller.active_controller import ActiveController
from klamm.controller.journal import Journal
from klamm.controller.raft_hardening import HardenedRaft
from klamm.controller.raft_messages import RaftMessages
from klamm.controller.vote_store import VoteStore
from pysyncobj.syncobj import SyncObj
from simulator.mutants.mutant import Mutant, rewrite

_MESSAGE: Final = "_SyncObj__onMessageReceived"

MUTANTS: Final = (
    Mutant(
        "vote_not_synced",
        "Term and vote are written, and the disk is not asked to keep them.",
        "Raft: after a loss of power a controller votes twice, or is in a term behind its own journal",
        (25, 0),
        (
            rewrite(
                VoteStore,
                "store",
                (
                    "self._file_system.replace(self._path, encode_properties(properties))",
                    # One length, so that a loss of power leaves the old words or the new ones, and no mixture.
                    "properties['filler'] = '-' * (150 - sum(len(key) + len(properties[key]) for key in properties))\n"
                    "    if voted_for is None and not term:\n"
                    "        self._file_system.replace(self._path, encode_properties(properties))\n"
                    "    else:\n"
                    "        self._file_system.open(self._path).write_at(encode_properties(properties), 0)",
                ),
            ),
        ),
        prefer=("power",),
    ),
    Mutant(
        "journal_not_synced",
        "Entries are acked that are in the page cache alone.",
        "Raft: what is committed is lost with the power of all",
        (25, 0),
        (rewrite(Journal, "sync", ("self._file.sync()", "pass")),),
        prefer=("power",),
    ),
    Mutant(
        "votes_twice_in_a_term",
        "A controller gives its vote to whoever asks, also when it has given it to another in this term.",
        "Raft, 5.2: two leaders in one term",
        (25, 0),
        (rewrite(SyncObj, _MESSAGE, ("if self.__votedForNodeId is not None:", "if False:")),),
        prefer=("kills", "network"),
    ),
    Mutant(
        "votes_for_a_shorter_log",
        "A controller votes for one whose log lacks entries that its own has.",
        "Raft, 5.4.1: what is committed is lost",
        (25, 0),
        (
            rewrite(
                raft_messages, "log_is_current", ("(last_term, last_index) >= (own_last_term, own_last_index)", "True")
            ),
            rewrite(
                SyncObj,
                _MESSAGE,
                ("if lastLogTerm < self.__getCurrentLogTerm():", "if False:"),
                ("lastLogIdx < self.__getCurrentLogIndex():", "False:"),
            ),
        ),
        prefer=("kills", "network"),
    ),
    Mutant(
        "commits_without_majority",
        "The leader counts an entry as committed once it is in its own journal.",
        "Raft, 5.3",
        (25, 0),
        (
            rewrite(
                SyncObj,
                "_onTick",
                (
                    "if count <= (len(self.__otherNodes) + 1) / 2:\n                break",
                    "if count < 1:\n                break",
                ),
            ),
        ),
        prefer=("kills", "network"),
    ),
    Mutant(
        "applies_before_commit",
        "A controller applies entries when it has them, not when they are committed.",
        "Raft, 5.3: they may yet be cut off",
        (25, 0),
        (
            rewrite(
                HardenedRaft,
                "_SyncObj__applyLogEntries",
                (
                    "self._SyncObj__raftLastApplied < self._SyncObj__raftCommitIndex",
                    "self._SyncObj__raftLastApplied < self._journal.last_index",
                ),
            ),
        ),
        prefer=("kills", "network"),
    ),
    Mutant(
        "answers_before_commit",
        "The active controller answers a command by what it would do, before it is committed.",
        "rule 9: a leader that is cut off answers from the past",
        (9, 11, 17, 3, 0),
        (
            rewrite(
                ActiveController,
                "propose",
                (
                    "answer = await self._raft.propose(entry, timeout_ms=timeout_ms)",
                    "from klamm.controller.state import apply\n"
                    "        under_way = asyncio.ensure_future(self._raft.propose(entry, timeout_ms=timeout_ms))\n"
                    "        under_way.add_done_callback(lambda done: done.cancelled() or done.exception())\n"
                    "        answer = apply(self._machine.state, entry).response.SerializeToString()",
                ),
            ),
        ),
        prefer=("kills", "network"),
    ),
    Mutant(
        "compaction_loses_the_tail",
        "A journal that a snapshot makes shorter loses its last entry too.",
        "DESIGN.md 5: an entry that was acked is gone",
        (25, 0),
        (
            rewrite(
                Journal,
                "deleteEntriesTo",
                ("self.replace_all(self._entries[entryTo:])", "self.replace_all(self._entries[entryTo:-1])"),
            ),
        ),
        prefer=("kills",),
    ),
    Mutant(
        "follower_cuts_what_matches",
        "A follower cuts its journal at every append, also where the entries are the same.",
        "DESIGN.md 5: as the library does when it is left alone",
        (25, 0),
        (
            rewrite(
                raft_messages,
                "filter_append",
                (
                    "safe_commit_index = min(append.commit_index, append.end_index)",
                    "return Deliver(append)",
                ),
            ),
        ),
        prefer=("kills", "network"),
    ),
    Mutant(
        "old_leaders_answers_counted",
        "An answer of an earlier term counts for entries of this one.",
        "DESIGN.md 5: a late ack counts for what it does not know",
        (25, 0),
        (rewrite(RaftMessages, "_on_answer", ("or answer.term < self._SyncObj__raftCurrentTerm", "")),),
        prefer=("quorum",),
    ),
    Mutant(
        "metadata_taken_up_half",
        "A broker acts on the records of a command but the last.",
        "rule 20: it acts on an image that never was",
        (20, 7, 1, 0),
        (
            rewrite(
                MetadataFollower,
                "_take_records",
                (
                    "batch.records[end_offset - batch.base_offset :]",
                    "batch.records[end_offset - batch.base_offset :][: max(1, batch.end_offset - end_offset - 1)]",
                ),
            ),
        ),
    ),
)
