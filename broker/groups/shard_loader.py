"""Loads a coordinator shard: reads its partition, waits until what it read is safe, and makes the groups.

All that is in the log at the beginning of a leadership counts, and it is shown to nobody before every replica in sync
has it: what is shown once may not vanish with the next failover (rule 21).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Final

from ...proto.errors import ErrorCode, KafkaError
from .group_log import NotCoordinatingError
from .group_replay import GroupReplay
from .shard import GroupShard
from .shard_offsets import ShardOffsets

logger = logging.getLogger(__name__)

_RETRY_MS: Final = 500
_COMMIT_WAIT_MS: Final = 60_000
_SLICE_MS: Final = 5


async def load(shard: GroupShard, topics: Callable[[], Collection[str]]) -> None:
    """Makes the shard ACTIVE, however often it takes; returns also when it is closed.

    `topics` are those that there are: the offsets of others belong to topics deleted meanwhile.
    """
    while not shard.closed:
        try:
            if await _load(shard, topics):
                return
        except NotCoordinatingError:
            logger.info("group_load_waits partition=%s epoch=%d", shard, shard.log.leader_epoch)
        except KafkaError as error:
            logger.error("group_load_failed partition=%s epoch=%d error=%s", shard, shard.log.leader_epoch, error)
        if not shard.closed:
            await asyncio.sleep(_RETRY_MS / 1000)


async def _load(shard: GroupShard, topics: Callable[[], Collection[str]]) -> bool:
    began_ms = shard.clock.monotonic_ms()
    replay = GroupReplay(str(shard), shard.context.factory)
    async with aclosing(shard.log.read(shard.context.config.offsets_load_buffer_size)) as slices:
        async for records in slices:
            for record in records:
                replay.replay(record)
    read_ms = shard.clock.monotonic_ms()
    end_offset = shard.log.log_end_offset()
    error = await shard.log.committed(end_offset, _COMMIT_WAIT_MS)
    if shard.closed:
        return True
    if error is not ErrorCode.NONE:
        logger.info("group_load_waits partition=%s epoch=%d error=%s", shard, shard.log.leader_epoch, error.name)
        return False
    await _add_groups(shard, replay)
    if shard.closed:
        return True
    shard.activate(replay.offsets)
    logger.info(
        "groups_loaded partition=%s epoch=%d records=%d skipped=%d groups=%d offsets=%d read_ms=%d total_ms=%d",
        shard,
        shard.log.leader_epoch,
        replay.record_count,
        replay.skipped_count,
        len(shard.entries),
        len(shard.offsets),
        read_ms - began_ms,
        shard.clock.monotonic_ms() - began_ms,
    )
    _forget_deleted_topics(shard, topics())
    return True


async def _add_groups(shard: GroupShard, replay: GroupReplay) -> None:
    """All that the log has, beyond the limit too: what was promised is kept."""
    began_ms = shard.clock.monotonic_ms()
    for group in replay.groups():
        shard.add(group)
        if shard.clock.monotonic_ms() - began_ms >= _SLICE_MS:
            await asyncio.sleep(0)
            if shard.closed:
                return
            began_ms = shard.clock.monotonic_ms()


def _forget_deleted_topics(shard: GroupShard, topics: Collection[str]) -> None:
    """A commit is taken only for a topic that there is, so one that is not there now was deleted after it.

    This broker's metadata are at least those that gave it the leadership, and no earlier coordinator took a commit
    under later ones.
    """
    deleted = shard.offsets.topics() - set(topics)
    if deleted:
        ShardOffsets(shard).topics_deleted(deleted)
