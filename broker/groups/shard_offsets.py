"""The offsets of one coordinator shard: commit, fetch, delete, expire.

Rule 21: a commit is answered NONE only when every replica in sync has its record, by the coordinator that appended it,
in the leader epoch in which it did, and for the generation and member that the group had at that moment. A fetch shows
nothing that is not on every replica in sync: without `require_stable` the newest that is, with it the newest that
there is, once it is so (as in Apache Kafka since 3.9).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final

from ...proto.errors import ErrorCode
from ...proto.identifiers import Offset, TopicPartition
from .append_queue import Write
from .classic_group import ClassicGroup
from .committed_offsets import Change, ExpiryRule
from .group import GroupRecord
from .group_log import batch_size_bytes
from .group_request import (
    CONSUMER_PROTOCOL_TYPE,
    CommittedOffset,
    GroupState,
    OffsetCommitAnswer,
    OffsetCommitRequest,
    OffsetDeleteAnswer,
    OffsetFetchAnswer,
    OffsetFetchRequest,
    OffsetToCommit,
)
from .pending_append import error_of_append
from .records import InvalidGroupRecordError, OffsetKey, OffsetValue, offset_record
from .shard import NO_MEMBERS, GroupEntry, GroupShard, ShardState

logger = logging.getLogger(__name__)

_Told = Callable[[ErrorCode], None]

_TOMBSTONES_BYTES: Final = 128 * 1024
"""Deletions need not be one batch: they are cut into pieces of so much."""
_SLICE_MS: Final = 5


class ShardOffsets:
    """Works on a shard's state; see the module."""

    def __init__(self, shard: GroupShard) -> None:
        self._shard = shard
        self._config = shard.context.config
        self._clock = shard.clock

    # --- commit ---

    async def commit(self, request: OffsetCommitRequest) -> OffsetCommitAnswer:
        """Appends what is right in the request, with the commits of others that come in the same moment."""
        entry, error = self._entry_to_commit(request)
        if entry is None or error is not ErrorCode.NONE:
            return _all(request, error)
        changes, records, errors = self._prepared(request)
        shard = self._shard
        if not records:
            shard.maybe_forget(entry)
            return OffsetCommitAnswer(tuple(errors))
        ticket, future = shard.waiters.begin(lambda refusal: _all(request, refusal))

        def appended(end_offset: Offset) -> None:
            shard.offsets.appended(end_offset, changes)
            shard.keep(request.group_id)

        def done(error: ErrorCode, in_log: bool) -> None:
            if shard.closed:
                return
            self._settle()
            if error is ErrorCode.NONE and not shard.log.leads():
                error = ErrorCode.NOT_LEADER_OR_FOLLOWER
            if error is not ErrorCode.NONE:
                logger.info("commit_failed partition=%s group=%s error=%s", shard, request.group_id, error.name)
            told = _error_of_commit(error)
            answer = OffsetCommitAnswer(tuple(told if one is ErrorCode.NONE else one for one in errors))
            shard.waiters.answer(ticket, answer)
            if not in_log:
                shard.maybe_forget(entry)

        shard.queue.soon(Write(records, appended, done))
        try:
            answer: OffsetCommitAnswer = await future
        finally:
            shard.waiters.end(ticket)
        return answer

    def _settle(self) -> None:
        """Takes up what is committed by now: groups whose offsets nobody fetches must not pile it up."""
        self._shard.offsets.commit_through(self._shard.log.high_watermark())

    def _entry_to_commit(self, request: OffsetCommitRequest) -> tuple[GroupEntry | None, ErrorCode]:
        """The group, if it lets this member commit now; a simple group is made for a commit from outside of any."""
        shard = self._shard
        entry = shard.entries.get(request.group_id)
        if entry is None:
            if request.generation_or_member_epoch >= 0:
                known = request.understands_member_epochs
                return None, ErrorCode.GROUP_ID_NOT_FOUND if known else ErrorCode.ILLEGAL_GENERATION
            entry = shard.add_if_room(shard.context.factory.classic(request.group_id))
            if entry is None:
                return None, ErrorCode.GROUP_MAX_SIZE_REACHED
        error = entry.group.check_offset_commit(request, self._clock.monotonic_ms())
        shard.schedule(entry)
        if error is not ErrorCode.NONE:
            shard.maybe_forget(entry)
        return entry, error

    def _prepared(self, request: OffsetCommitRequest) -> tuple[list[Change], list[GroupRecord], list[ErrorCode]]:
        """What to write, and one error for each offset of the request."""
        wall_ms = self._clock.wall_ms()
        changes: list[Change] = []
        records: list[GroupRecord] = []
        errors: list[ErrorCode] = []
        for offset in request.offsets:
            if len(offset.metadata) > self._config.offset_metadata_max_bytes:
                errors.append(ErrorCode.OFFSET_METADATA_TOO_LARGE)
                continue
            key, value = _record_of(request.group_id, offset, wall_ms)
            try:
                records.append(offset_record(key, value))
            except InvalidGroupRecordError:  # a text that is longer than the format has room for
                errors.append(ErrorCode.INVALID_COMMIT_OFFSET_SIZE)
                continue
            changes.append((key, value))
            errors.append(ErrorCode.NONE)
        return changes, records, errors

    # --- fetch ---

    async def fetch(self, request: OffsetFetchRequest) -> OffsetFetchAnswer:
        """The offsets of one group; a group that is not there has none."""
        shard = self._shard
        entry = shard.entries.get(request.group_id)
        if entry is None:
            return _fetched(request, {})
        error = entry.group.check_offset_fetch(request.member_id, request.member_epoch)
        if error is ErrorCode.GROUP_ID_NOT_FOUND:
            return _fetched(request, {})
        if error is not ErrorCode.NONE:
            return OffsetFetchAnswer(error)
        self._settle()
        if not request.require_stable:
            return _fetched(request, shard.offsets.committed(request.group_id))
        shard.queue.flush()
        end_offset = shard.offsets.pending_end_offset(request.group_id)
        answer = _fetched(request, shard.offsets.latest(request.group_id))
        if end_offset is not None:
            error = await shard.committed_through(end_offset)
            if error is not ErrorCode.NONE:
                # Consumers before Kafka 3.9 know no other error here that makes them ask again, perhaps elsewhere.
                return OffsetFetchAnswer(ErrorCode.NOT_COORDINATOR)
        return answer

    # --- delete ---

    async def delete(self, group_id: str, partitions: Sequence[TopicPartition]) -> OffsetDeleteAnswer:
        """Deletes single offsets (KIP-496), those of topics that the group reads excepted."""
        shard = self._shard
        entry = shard.entries.get(group_id)
        if entry is None or entry.group.state is GroupState.DEAD:
            return OffsetDeleteAnswer(ErrorCode.GROUP_ID_NOT_FOUND)
        group = entry.group
        if group.state not in NO_MEMBERS and group.listed().protocol_type != CONSUMER_PROTOCOL_TYPE:
            return OffsetDeleteAnswer(ErrorCode.NON_EMPTY_GROUP)
        shard.queue.flush()
        latest = shard.offsets.latest(group_id)
        subscribed = {topic: group.is_subscribed_to(topic) for topic in {each.topic for each in partitions}}
        errors = tuple(
            ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed[each.topic] else ErrorCode.NONE for each in partitions
        )
        gone: list[Change] = [
            (OffsetKey(group_id, *each), None)
            for each in dict.fromkeys(partitions)
            if not subscribed[each.topic] and each in latest
        ]
        error = await self._write_tombstones(gone)
        return OffsetDeleteAnswer(ErrorCode.NONE, errors) if error is ErrorCode.NONE else OffsetDeleteAnswer(error)

    async def delete_group(self, group_id: str) -> ErrorCode:
        """Removes a group without members, with all its offsets."""
        shard = self._shard
        entry = shard.entries.get(group_id)
        if entry is None:
            return ErrorCode.GROUP_ID_NOT_FOUND
        shard.queue.flush()
        error = entry.group.check_delete()
        if error is not ErrorCode.NONE:
            return error
        error = await self._write_tombstones(shard.offsets.deletion(group_id), entry)
        if error is ErrorCode.NONE:
            logger.info("group_deleted partition=%s group=%s", shard, group_id)
        return error

    async def _write_tombstones(self, gone: Sequence[Change], entry: GroupEntry | None = None) -> ErrorCode:
        """Deletes offsets and, last, the group of `entry`; NONE once that is committed."""
        shard = self._shard
        ticket, future = shard.waiters.begin(lambda error: error)
        try:
            left = self._queue_tombstones(gone, entry, lambda error: shard.waiters.answer(ticket, error))
            if not left:
                return ErrorCode.NONE
            error: ErrorCode = await future
        finally:
            shard.waiters.end(ticket)
        return error_of_append(error)

    def _queue_tombstones(self, gone: Sequence[Change], entry: GroupEntry | None, done: _Told) -> bool:
        """Appends them in pieces; `done` is told the first error, or NONE when all are committed. False: none needed.

        The group goes with the last piece, and no piece goes before the one ahead of it.
        """
        shard = self._shard
        pieces: list[tuple[list[GroupRecord], list[Change]]] = list(_pieces(gone))
        if entry is not None and (tombstones := list(entry.group.tombstones())):
            pieces.append((tombstones, []))
        if not pieces and entry is not None:
            shard.remove(entry)
        left, refused = len(pieces), False

        def piece_done(error: ErrorCode, in_log: bool) -> None:
            nonlocal left, refused
            left -= 1
            refused = refused or not in_log
            if shard.closed:
                return
            self._settle()
            if error is not ErrorCode.NONE or left == 0:
                done(error)

        for number, (records, changes) in enumerate(pieces, start=1):
            taken = _Taken(shard, changes, entry if number == len(pieces) else None)
            shard.queue.now(Write(records, taken, piece_done))
            if refused:
                break
        return bool(pieces)

    # --- time, topics ---

    async def expire(self) -> None:
        """Removes what nobody used for long, and groups of which nothing is left (KIP-211)."""
        shard = self._shard
        began_ms = self._clock.monotonic_ms()
        expired = 0
        for entry in tuple(shard.entries.values()):
            if shard.state is not ShardState.ACTIVE or not shard.log.leads():
                return
            if shard.entries.get(entry.group.group_id) is entry:
                expired += self._expire_group(entry)
            if self._clock.monotonic_ms() - began_ms >= _SLICE_MS:
                await asyncio.sleep(0)
                began_ms = self._clock.monotonic_ms()
        if expired:
            logger.info("offsets_expired partition=%s epoch=%d offsets=%d", shard, shard.log.leader_epoch, expired)

    def _expire_group(self, entry: GroupEntry) -> int:
        """How many offsets go; the group goes too if it has no members and no offset is left."""
        shard, group = self._shard, entry.group
        rule = self._rule_of(entry)
        if rule is None:
            return 0
        shard.queue.flush()  # a commit that waits there keeps the group
        gone, none_left = shard.offsets.expired(group.group_id, rule, self._clock.wall_ms())
        removable = (
            none_left
            and group.check_delete() is ErrorCode.NONE
            and group.next_deadline_ms() is None  # somebody was told a member id and is on the way back
        )
        if gone or removable:
            self._queue_tombstones(gone, entry if removable else None, self._log_failure)
        return len(gone)

    def _rule_of(self, entry: GroupEntry) -> ExpiryRule | None:
        group = entry.group
        in_use = isinstance(group, ClassicGroup) and group.state not in NO_MEMBERS
        if in_use and (group.state is not GroupState.STABLE or group.listed().protocol_type != CONSUMER_PROTOCOL_TYPE):
            return None  # who reads what is open, or cannot be known
        return ExpiryRule(self._config.offsets_retention_ms, group.offsets_expire_since_ms, group.is_subscribed_to)

    def topics_deleted(self, topics: Collection[str]) -> None:
        """Their offsets go: a topic made again under the same name begins at 0."""
        shard = self._shard
        shard.queue.flush()
        gone = list(shard.offsets.of_topics(topics))
        if gone:
            logger.info(
                "offsets_of_deleted_topics partition=%s epoch=%d offsets=%d topics=%s",
                shard,
                shard.log.leader_epoch,
                len(gone),
                ",".join(sorted(topics)[:10]),
            )
            self._queue_tombstones(gone, None, self._log_failure)

    def _log_failure(self, error: ErrorCode) -> None:
        """Nobody waits: what is left is found again at the next expiry, or by the next coordinator."""
        if error is not ErrorCode.NONE:
            logger.warning("tombstones_not_written partition=%s error=%s", self._shard, error.name)


class _Taken:
    """Takes up deletions that are in the log."""

    def __init__(self, shard: GroupShard, changes: Sequence[Change], entry: GroupEntry | None) -> None:
        self._shard = shard
        self._changes = changes
        self._entry = entry

    def __call__(self, end_offset: Offset) -> None:
        self._shard.offsets.appended(end_offset, self._changes)
        if self._entry is not None:
            self._shard.remove(self._entry)


def _record_of(group_id: str, offset: OffsetToCommit, wall_ms: int) -> tuple[OffsetKey, OffsetValue]:
    return OffsetKey(group_id, offset.topic, offset.partition), OffsetValue(
        offset=offset.offset,
        leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
        commit_timestamp_ms=wall_ms if offset.commit_timestamp_ms is None else offset.commit_timestamp_ms,
        expire_timestamp_ms=offset.expire_timestamp_ms,
    )


def _error_of_commit(error: ErrorCode) -> ErrorCode:
    if error in (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE):
        return ErrorCode.INVALID_COMMIT_OFFSET_SIZE
    return error_of_append(error)


def _all(request: OffsetCommitRequest, error: ErrorCode) -> OffsetCommitAnswer:
    return OffsetCommitAnswer((error,) * len(request.offsets))


def _fetched(request: OffsetFetchRequest, offsets: Mapping[TopicPartition, OffsetValue]) -> OffsetFetchAnswer:
    if request.partitions is None:
        return OffsetFetchAnswer(
            ErrorCode.NONE, tuple(_committed(each, value) for each, value in sorted(offsets.items(), key=itemgetter(0)))
        )
    asked = (TopicPartition(*each) for each in request.partitions)
    return OffsetFetchAnswer(ErrorCode.NONE, tuple(_committed(each, offsets.get(each)) for each in asked))


def _committed(partition: TopicPartition, value: OffsetValue | None) -> CommittedOffset:
    if value is None:
        return CommittedOffset(partition.topic, partition.partition, None)
    return CommittedOffset(*partition, value.offset, value.leader_epoch, value.metadata)


def _pieces(changes: Sequence[Change]) -> Iterator[tuple[list[GroupRecord], list[Change]]]:
    """The changes with their records, cut to batches of a moderate size."""
    records: list[GroupRecord] = []
    piece: list[Change] = []
    size = 0
    for change in changes:
        record = offset_record(*change)
        more = batch_size_bytes((record,))
        if piece and size + more > _TOMBSTONES_BYTES:
            yield records, piece
            records, piece, size = [], [], 0
        records.append(record)
        piece.append(change)
        size += more
    if piece:
        yield records, piece
