"""All replicas of this broker, and how they follow the metadata: who leads, who follows whom, what goes.

Also the host of each partition: it carries out what a partition asks for beyond its own log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from ..cluster.clock import Clock
from ..cluster.delta import LocalPartition, MetadataDelta
from ..cluster.image import MetadataImage
from ..cluster.topic_config import TopicConfig
from ..proto.errors import ErrorCode, KafkaStorageError
from ..proto.identifiers import KAFKA_LISTENER, BrokerEpoch, BrokerId, Offset, TopicId, TopicIdPartition
from .leader_replica import LeaderReplica, PartitionKey
from .log.log_config import LogConfig
from .log.log_manager import LogManager
from .partition import Partition
from .read_replica import preferred_read_replica
from .replication.command_sender import CommandSender, Submit
from .replication.failed_replicas import FailedReplicas, FailingReplica, MissingReplica
from .replication.fetchers import Fetchers
from .replication.isr import IsrProposal
from .replication.isr_sender import IsrChanges
from .replication.leader import IsrChanged
from .replication.replication_service import ReplicationStreams
from .replication.transport import GrpcReplicaTransport, ReplicaTransport

logger = logging.getLogger(__name__)

_WORK_MS_MAX: Final = 10
"""Applying metadata lets others run after so long."""
_RETRY_MS: Final = 5_000
"""How often a replica whose folder could not be made is tried again."""


class Partitions:
    """Lives on one event loop."""

    def __init__(
        self,
        *,
        broker_id: BrokerId,
        log_manager: LogManager,
        clock: Clock,
        broker_epoch: Callable[[], BrokerEpoch],
        submit: Submit,
        replica_lag_time_max_ms: int,
        topic_defaults: Mapping[str, str],
        tick_ms: int,
        transport: ReplicaTransport | None,
        random: Random,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self.broker_id: Final = broker_id
        self.clock: Final = clock
        self.replica_lag_time_max_ms: Final = replica_lag_time_max_ms
        self.active_brokers: Final[dict[BrokerId, BrokerEpoch]] = {}
        self.by_key: Final[dict[PartitionKey, Partition]] = {}
        self.by_name: Final[dict[tuple[str, int], Partition]] = {}
        self.streams: Final = ReplicationStreams(self.by_key, clock, self._registered_epoch)
        self._log_manager = log_manager
        self._topic_defaults = topic_defaults
        self._tick_ms = tick_ms
        self._on_fatal = on_fatal
        self._image = MetadataImage.empty()
        self._configs: dict[TopicId, TopicConfig] = {}
        self._unsettled: dict[Partition, None] = {}
        self._homeless: dict[TopicIdPartition, int] = {}  # no log could be made; when to try again
        self._changes = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._fetchers = Fetchers(
            broker_id=broker_id,
            broker_epoch=broker_epoch,
            transport=transport or GrpcReplicaTransport(),
            random=random,
            on_fatal=on_fatal,
        )
        self._isr_sender: CommandSender[Partition] = CommandSender(
            IsrChanges(broker_id, clock, lambda: self._image.end_offset),
            submit=submit,
            broker_epoch=broker_epoch,
            random=random,
        )
        self._failure_sender: CommandSender[FailingReplica] = CommandSender(
            FailedReplicas(broker_id), submit=submit, broker_epoch=broker_epoch, random=random
        )

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins the background work."""
        self._log_manager.start(self.high_watermark_of)
        for name, work in (
            ("isr-sender", self._isr_sender.run),
            ("replica-failure-sender", self._failure_sender.run),
            ("replica-tick", self._tick),
        ):
            task = asyncio.create_task(work(), name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._on_fatal(error)

    async def shutdown(self) -> None:
        """Follows and leads nothing any more; whoever waits is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._fetchers.shutdown()
        for partition in self.by_key.values():
            partition.close(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self.streams.close()

    def high_watermark_of(self, topic_id_partition: TopicIdPartition) -> Offset | None:
        partition = self.by_key.get((topic_id_partition.topic_id.bytes, topic_id_partition.partition))
        return None if partition is None else partition.high_watermark

    # --- what partitions ask for (PartitionHost) -------------------------------------------------------------

    def send_alter_partition(self, partition: Partition, proposal: IsrProposal) -> None:
        self._isr_sender.want(partition)

    def isr_changed(self, partition: Partition, changed: IsrChanged) -> None:
        logger.info(
            "isr_changed partition=%s epoch=%s isr=%s under_min_isr=%s",
            partition,
            partition.leader_epoch,
            sorted(changed.isr),
            changed.under_min_isr,
        )

    def unsettled(self, partition: Partition) -> None:
        self._unsettled[partition] = None

    def replica_failed(self, partition: Partition, error: KafkaStorageError) -> None:
        self._failure_sender.want(partition)

    def _registered_epoch(self, broker_id: BrokerId) -> BrokerEpoch | None:
        broker = self._image.brokers.get(broker_id)
        return None if broker is None else broker.broker_epoch

    # --- time ------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Only partitions that time can change are looked at: an idle cluster has none."""
        while True:
            await asyncio.sleep(self._tick_ms / 1000)
            now_ms = self.clock.monotonic_ms()
            for partition in tuple(self._unsettled):
                leader = partition.leader
                if leader is None or leader.state.settled:
                    del self._unsettled[partition]
                else:
                    leader.ticked(now_ms)
            if self._homeless:
                await self._try_homeless(now_ms)

    async def _try_homeless(self, now_ms: int) -> None:
        async with self._changes:
            for key in [key for key, retry_ms in self._homeless.items() if retry_ms <= now_ms]:
                del self._homeless[key]
                topic = self._image.topic_by_id(key.topic_id)
                image = self._image.partition(key.topic_id, key.partition)
                if topic is not None and image is not None and self.broker_id in image.replicas:
                    self._apply(LocalPartition(topic, image))
            # Nothing else may be followed at its leader: then there is no fetcher yet.
            await self._fetchers.metadata_changed(self._image)

    # --- metadata --------------------------------------------------------------------------------------------

    async def on_metadata(self, old: MetadataImage, new: MetadataImage) -> None:
        """Each partition changes at one stroke; between partitions others may run."""
        async with self._changes:
            delta = MetadataDelta.between(old, new)
            self._image = new
            local = delta.for_broker(self.broker_id)
            if delta.brokers_changed:
                self._take_brokers(new)
            for name in delta.configs_changed:
                self._reconfigure(name)
            began_ms = self.clock.monotonic_ms()
            work: list[tuple[Callable[[LocalPartition], None], LocalPartition]] = [
                *((self._remove_deleted, each) for each in local.to_remove_deleted),
                *((self._remove_reassigned, each) for each in local.to_remove_reassigned),
                *((self._apply, each) for each in local.to_lead),
                *((self._apply, each) for each in local.to_follow),
            ]
            for do, each in work:
                do(each)
                if self.clock.monotonic_ms() - began_ms >= _WORK_MS_MAX:
                    await asyncio.sleep(0)
                    began_ms = self.clock.monotonic_ms()
            if delta.brokers_changed:
                now_ms = self.clock.monotonic_ms()
                for partition in tuple(self.by_key.values()):
                    if partition.leader is not None and not partition.leader.state.settled:
                        partition.leader.carry_out(partition.leader.state.brokers_changed(now_ms))
            await self._fetchers.metadata_changed(new)
            self.streams.metadata_changed()

    def _take_brokers(self, image: MetadataImage) -> None:
        self.active_brokers.clear()
        self.active_brokers.update(
            (broker.broker_id, broker.broker_epoch) for broker in image.brokers.values() if broker.active
        )

    def _reconfigure(self, name: str) -> None:
        topic = self._image.topics[name]
        self._configs.pop(topic.topic_id, None)
        config = self._config_of(name, topic.topic_id)
        now_ms = self.clock.monotonic_ms()
        for number in range(len(topic.partitions)):
            partition = self.by_name.get((name, number))
            if partition is not None and partition.topic_id_partition.topic_id == topic.topic_id:
                partition.reconfigure(config, topic.partitions[number], now_ms)

    def _config_of(self, name: str, topic_id: TopicId) -> TopicConfig:
        config = self._configs.get(topic_id)
        if config is None:
            config = self._configs[topic_id] = self._image.topic_config(name, self._topic_defaults, self.broker_id)
        return config

    def _apply(self, local: LocalPartition) -> None:
        """Leads or follows, as the metadata says."""
        try:
            partition = self._partition_for(local)
            if local.partition.leader == self.broker_id:
                self._fetchers.unfollow(partition)
                partition.lead(local.partition, self.clock.monotonic_ms())
            elif partition.follow(local.partition):
                self._fetchers.follow(partition)
        except KafkaStorageError as error:
            logger.error(
                "replica_role_failed partition=%s-%d epoch=%d error=%s",
                local.topic.name,
                local.partition.partition,
                local.partition.leader_epoch,
                error,
            )

    def _partition_for(self, local: LocalPartition) -> Partition:
        """The replica, made if need be. :raises KafkaStorageError: its log cannot be."""
        topic_id_partition = local.topic_id_partition
        key = (topic_id_partition.topic_id.bytes, topic_id_partition.partition)
        partition = self.by_key.get(key)
        if partition is not None:
            return partition
        config = self._config_of(local.topic.name, topic_id_partition.topic_id)
        try:
            log = self._log_manager.create(
                local.topic.name, topic_id_partition.topic_id, key[1], LogConfig.from_topic_config(config)
            )
        except KafkaStorageError:
            self._homeless[topic_id_partition] = self.clock.monotonic_ms() + _RETRY_MS
            name = f"{local.topic.name}-{topic_id_partition.partition}"
            self._failure_sender.want(MissingReplica(name, key, local.partition.leader_epoch))
            raise
        partition = Partition(
            self,
            topic=local.topic.name,
            topic_id_partition=topic_id_partition,
            log=log,
            high_watermark=self._log_manager.high_watermark(topic_id_partition),
            config=config,
        )
        self.by_key[key] = partition
        self.by_name[(local.topic.name, key[1])] = partition
        return partition

    def _remove_deleted(self, local: LocalPartition) -> None:
        self._configs.pop(local.topic.topic_id, None)
        self._remove(local, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def _remove_reassigned(self, local: LocalPartition) -> None:
        self._remove(local, ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def _remove(self, local: LocalPartition, error: ErrorCode) -> None:
        topic_id_partition = local.topic_id_partition
        self._homeless.pop(topic_id_partition, None)
        partition = self.by_key.pop((topic_id_partition.topic_id.bytes, topic_id_partition.partition), None)
        if partition is None:
            return
        name = (partition.topic, topic_id_partition.partition)
        if self.by_name.get(name) is partition:
            del self.by_name[name]
        self._unsettled.pop(partition, None)
        self._fetchers.unfollow(partition)
        partition.close(error)
        try:
            self._log_manager.delete(topic_id_partition)
        except KafkaStorageError as failure:
            logger.error("log_delete_failed partition=%s error=%s", partition, failure)

    def set_aside_strays(self, image: MetadataImage) -> int:
        """Rule 24: what the metadata does not give to this broker is kept under another name, never deleted."""
        strays = [
            key
            for key in self._log_manager.logs
            if (found := image.partition(key.topic_id, key.partition)) is None or self.broker_id not in found.replicas
        ]
        for key in strays:
            try:
                self._log_manager.set_aside(key)
            except KafkaStorageError as error:
                logger.error("log_set_aside_failed partition=%s error=%s", key, error)
        return len(strays)

    def preferred_read_replica(self, leader: LeaderReplica, rack: str, fetch_offset: Offset) -> BrokerId | None:
        """Which other replica a consumer in this rack should read from (KIP-392)."""
        log_starts = leader.follower_log_starts
        return preferred_read_replica(self._image, leader.state, log_starts, rack, fetch_offset, KAFKA_LISTENER)

    def why_absent(self, topic: str, topic_id: TopicId | None, number: int) -> ErrorCode:
        """Why this broker has no such replica: each answer sends the client for newer metadata (rule 15)."""
        found = self._image.topics.get(topic)
        if topic_id is not None and (found is None or found.topic_id != topic_id):
            return ErrorCode.UNKNOWN_TOPIC_ID
        if found is None or not 0 <= number < len(found.partitions):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
