"""What a broker tells that must not be out of date: rules 15 and 21, at each fetch of records and of offsets.

15  a reader is sent back (OFFSET_OUT_OF_RANGE) by nobody who has been replaced
21  the offsets of a group that are told are those acked last when they were asked for, or later ones
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from klamm.broker.groups.coordinator import GroupCoordinator
from klamm.broker.groups.offsets_topic import OFFSETS_TOPIC
from klamm.broker.replica_manager import ReplicaManager
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import TopicPartition
from simulator.oracles.hooks import Hooks
from simulator.oracles.sight import current_node_id

if TYPE_CHECKING:
    from simulator.oracles import Oracles


class FreshnessOracle:
    """Listens to both."""

    def __init__(self, oracles: Oracles, hooks: Hooks) -> None:
        self._oracles = oracles
        hooks.around(GroupCoordinator, "fetch_offsets", self._fetch_offsets)
        hooks.after(ReplicaManager, "read", self._read)

    async def _fetch_offsets(self, fetch: Callable[..., Any], coordinator: GroupCoordinator, request: Any) -> Any:
        oracles, asked_s = self._oracles, self._oracles.now_s
        shard = coordinator._topic.partition_of(request.group_id)
        topic = oracles.metadata.image.topics.get(OFFSETS_TOPIC)
        answer = await fetch(coordinator, request)
        if answer.error is not ErrorCode.NONE or topic is None or shard is None:
            return answer
        told = {
            TopicPartition(each.topic, each.partition): None if each.offset is None else int(each.offset)
            for each in answer.offsets
            if each.error is ErrorCode.NONE
        }
        oracles.groups.told(
            f"broker {current_node_id()}",
            request.group_id,
            told,
            asked_s=asked_s,
            since_s=oracles.commits.of(topic.partitions[shard].topic_id_partition).promised_since_s,
            may_expire=oracles.clocks_are_far_off(),
        )
        return answer

    def _read(self, outcomes: Any, manager: ReplicaManager, fetch: Any) -> None:
        for request, outcome in zip(fetch.partitions, outcomes, strict=True):
            if outcome.error is not ErrorCode.OFFSET_OUT_OF_RANGE:
                continue
            partition = manager.get(request.topic, request.partition)
            if partition is None or partition.leader is None or request.fetch_offset <= partition.log.log_end_offset:
                continue
            committed = self._oracles.commits.of(partition.topic_id_partition)
            known = not committed.given_up and committed.promised_since_s < 0
            if known and request.fetch_offset <= committed.end_offset:
                self._oracles.findings.report(
                    15,
                    f"broker {current_node_id()} told a reader of {partition} that offset {request.fetch_offset} is "
                    f"out of range, as its log ends at {partition.log.log_end_offset}; all below "
                    f"{committed.end_offset} is committed",
                )
