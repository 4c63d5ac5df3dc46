"""The follower of one partition, as a core: what the leader answered in, what to do with the local log out.

A follower truncates at the point where epochs diverge and nowhere else, never to a high watermark (rule 12; KIP-101,
KIP-279, KIP-320). The leader names the largest epoch it has that is not above ours, and that epoch's end. If we hold
that epoch too, the logs agree up to the nearer of the two ends. If we do not, we cut back to the end of our largest
smaller epoch and ask again, with that epoch now our last. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ...proto.errors import ErrorCode
from ...proto.identifiers import LeaderEpoch, Offset

_OUR_LEADER_EPOCH_IS_OLD: Final = frozenset(
    {ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.UNKNOWN_TOPIC_ID}
)


class LocalLog(Protocol):
    """What the core has to know of the local log."""

    @property
    def log_start_offset(self) -> Offset: ...

    @property
    def log_end_offset(self) -> Offset: ...

    def end_offset_for_epoch(self, epoch: LeaderEpoch) -> tuple[LeaderEpoch | None, Offset]: ...


@dataclass(frozen=True, slots=True)
class LeaderAnswer:
    """The leader's answer for one partition, but for the record bytes."""

    leader_epoch: LeaderEpoch  # under which it was asked; the leader's own, but with an error
    fetch_offset: Offset  # of the position that was answered
    error: ErrorCode
    high_watermark: Offset
    log_start_offset: Offset
    diverging_epoch: tuple[LeaderEpoch, Offset] | None  # largest epoch of the leader's not above ours; its end
    has_records: bool


@dataclass(frozen=True, slots=True)
class AppendRecords:
    """Append the records, if any; then take over high watermark and log start; then ask for more."""


@dataclass(frozen=True, slots=True)
class TruncateTo:
    """Truncate log and epoch cache, even where the log is no longer than that (rule 14); then ask again."""

    offset: Offset


@dataclass(frozen=True, slots=True)
class StartOverAt:
    """Nothing of the local log is in the leader's: drop all of it and go on from the leader's log start."""

    offset: Offset


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The answer is to a question no longer open; ask from where the log stands."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Wait before asking again."""

    error: ErrorCode
    for_metadata: bool  # newer metadata will end this; asking again is only a precaution


@dataclass(frozen=True, slots=True)
class Discard:
    """The answer belongs to another leader epoch: do nothing (rule 11)."""


Action = AppendRecords | TruncateTo | StartOverAt | AskAgain | BackOff | Discard

_APPEND: Final = AppendRecords()
_ASK_AGAIN: Final = AskAgain()
_DISCARD: Final = Discard()


def decide(leader_epoch: LeaderEpoch, log: LocalLog, answer: LeaderAnswer) -> Action:
    """What a follower in `leader_epoch` does with the leader's answer."""
    if answer.leader_epoch != leader_epoch:
        return _DISCARD
    if answer.error is ErrorCode.NONE:
        if answer.fetch_offset != log.log_end_offset:
            return _ASK_AGAIN
        return (
            _APPEND
            if answer.diverging_epoch is None
            else _truncation(log, *answer.diverging_epoch, answer.log_start_offset)
        )
    if answer.error is ErrorCode.OFFSET_OUT_OF_RANGE:
        return _out_of_range(log, answer)
    return BackOff(answer.error, answer.error in _OUR_LEADER_EPOCH_IS_OLD)


def _truncation(log: LocalLog, epoch: LeaderEpoch, leaders_end_offset: Offset, leaders_start: Offset) -> Action:
    ours, our_end_offset = log.end_offset_for_epoch(epoch)
    # None, or the epoch itself at our first offset, stand for "older than all we have": then nothing of ours is known
    # to be the leader's, and the end is where our oldest epoch begins.
    agreed = min(our_end_offset, leaders_end_offset) if ours is None or ours == epoch else our_end_offset
    if agreed < log.log_start_offset:
        return StartOverAt(max(agreed, leaders_start))
    return TruncateTo(min(agreed, log.log_end_offset))


def _out_of_range(log: LocalLog, answer: LeaderAnswer) -> Action:
    if answer.fetch_offset != log.log_end_offset:
        return _ASK_AGAIN
    empty = log.log_start_offset == log.log_end_offset
    if answer.log_start_offset > log.log_end_offset or (empty and answer.log_start_offset != log.log_end_offset):
        return StartOverAt(answer.log_start_offset)
    return BackOff(answer.error, for_metadata=False)
