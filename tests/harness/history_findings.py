"""The anomalies that a history may show, by Jepsen's names where Jepsen has one, and what was found of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class AnomalyName(StrEnum):
    """Every anomaly; none is allowed, ever, with acks=all, idempotent producers and no unclean election."""

    LOST_WRITE = "lost-write"
    UNSEEN = "unseen"
    DUPLICATE = "duplicate"
    INCONSISTENT_OFFSETS = "inconsistent-offsets"
    ABORTED_READ = "G1a"
    PHANTOM_READ = "phantom-read"
    POLL_SKIP = "poll-skip"
    INTERNAL_POLL_SKIP = "int-poll-skip"
    NONMONOTONIC_POLL = "nonmonotonic-poll"
    INTERNAL_NONMONOTONIC_POLL = "int-nonmonotonic-poll"
    UNASSIGNED_POLL = "unassigned-poll"
    NONMONOTONIC_SEND = "nonmonotonic-send"
    INTERNAL_NONMONOTONIC_SEND = "int-nonmonotonic-send"
    ORDER_BROKEN = "order-broken"
    REPLICAS_DIFFER = "replicas-differ"
    COMMIT_BACKWARDS = "commit-backwards"
    COMMIT_PAST_POLL = "commit-past-poll"
    COMMITTED_DIFFERS = "committed-differs"
    LOST_COMMIT = "lost-commit"
    PHANTOM_COMMIT = "phantom-commit"
    GROUP_SKIP = "group-skip"


MEANINGS: dict[AnomalyName, str] = {
    AnomalyName.LOST_WRITE: "an acked value was polled by nobody, though a consumer read on past its offset",
    AnomalyName.UNSEEN: "an acked value was polled by nobody, though all was read after the faults healed",
    AnomalyName.DUPLICATE: "one value lies at two offsets, though its producer was idempotent",
    AnomalyName.INCONSISTENT_OFFSETS: "one offset holds two values",
    AnomalyName.ABORTED_READ: "a value was polled whose send had definitely failed (aborted read)",
    AnomalyName.PHANTOM_READ: "a value was polled that nobody sent to that partition",
    AnomalyName.POLL_SKIP: "between two polls of one assignment, records were passed over that others have read",
    AnomalyName.INTERNAL_POLL_SKIP: "the same within one poll",
    AnomalyName.NONMONOTONIC_POLL: "between two polls of one assignment, a consumer went back",
    AnomalyName.INTERNAL_NONMONOTONIC_POLL: "the same within one poll",
    AnomalyName.UNASSIGNED_POLL: "a consumer gave a record of a partition that it did not have",
    AnomalyName.NONMONOTONIC_SEND: "a later send of one producer was acked with a lower offset",
    AnomalyName.INTERNAL_NONMONOTONIC_SEND: "the same within one operation",
    AnomalyName.ORDER_BROKEN: "values of one producer lie in another order than that in which it sent them",
    AnomalyName.REPLICAS_DIFFER: "replicas of a partition hold different batches, or one lacks what was acked or read",
    AnomalyName.COMMIT_BACKWARDS: "a consumer committed a lower offset than before, of a partition it kept",
    AnomalyName.COMMIT_PAST_POLL: "a consumer committed an offset past records that it was not given",
    AnomalyName.COMMITTED_DIFFERS: "__consumer_offsets holds another offset than its coordinator told at the end",
    AnomalyName.LOST_COMMIT: "an acked commit was not seen by who asked or began later",
    AnomalyName.PHANTOM_COMMIT: "a committed offset was read that nobody committed",
    AnomalyName.GROUP_SKIP: "a member began past what its group had committed, and passed over records",
}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One breach, with what shows it."""

    name: AnomalyName
    description: str
    entries: tuple[int, ...]  # the numbers of the entries of the history that show it
    partition: int | None = None


class Findings:
    """Collects anomalies: it counts all and keeps the first ones of each name, for a broken system gives millions."""

    def __init__(self, kept_of_each_name: int) -> None:
        self._kept_of_each_name = kept_of_each_name
        self.counts: Counter[AnomalyName] = Counter()
        self.kept: list[Anomaly] = []

    def add(self, name: AnomalyName, partition: int | None, entries: tuple[int, ...], description: str) -> None:
        self.counts[name] += 1
        if self.counts[name] <= self._kept_of_each_name:
            self.kept.append(Anomaly(name, description, tuple(dict.fromkeys(entries)), partition))
