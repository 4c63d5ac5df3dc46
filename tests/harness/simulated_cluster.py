"""A whole cluster in one thread: real replica managers over real logs, the real controller state machine, and a
network, a clock and faults that are drawn from one seed.

The quorum itself is not simulated: one state machine stands for it, and brokers may be cut off from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from uuid import UUID

from harness.fake_file_system import FakeFileSystem
from harness.simulated_network import SimulatedStream, SimulatedTransport
from harness.virtual_loop import VirtualClock, VirtualLoop
from klamm.broker.log.cleaner_config import LogCleanerConfig
from klamm.broker.log.log_manager import LogManager, LogManagerConfig
from klamm.broker.replica_manager import ReplicaConfig, ReplicaManager
from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.cluster.records import CONFIG_RESOURCE_TOPIC
from klamm.controller.state import ControllerState, apply
from klamm.proto.command_pb2 import (
    ALTER_CONFIG_DELETE,
    ALTER_CONFIG_SET,
    AlterableConfig,
    AlterConfigsResource,
    AlterPartitionReassignmentsCommand,
    BecomeControllerCommand,
    Command,
    CommandResponse,
    CreatableTopic,
    CreateTopicsCommand,
    DeleteTopicsCommand,
    ElectLeadersCommand,
    FenceBrokersCommand,
    FencedBroker,
    IncrementalAlterConfigsCommand,
    ReassignablePartition,
    RegisterBrokerCommand,
    ReplicaAssignment,
    TopicReference,
    UnfenceBrokerCommand,
)
from klamm.proto.errors import ErrorCode
from klamm.proto.identifiers import BrokerEpoch, BrokerId
from klamm.proto.metadata_pb2 import Endpoint as EndpointRecord

SESSION_TIMEOUT_MS = 400
LAG_MS = 600


class SimulatedBroker:
    """One broker's disk, and its process while it runs."""

    def __init__(self, cluster: SimulatedCluster, broker_id: BrokerId) -> None:
        self.broker_id = broker_id
        self.cluster = cluster
        self.disk = FakeFileSystem()
        self.lost_data_in_epoch = BrokerEpoch(-1)  # the last incarnation that a power cut ended
        self.running = False
        self.log_manager: LogManager | None = None
        self.manager: ReplicaManager | None = None
        self.image = MetadataImage.empty()
        self.epoch = BrokerEpoch(-1)
        self.clock = VirtualClock(cluster.loop)
        self.last_seen_ms = 0
        self.in_touch = True  # as the broker knows it; false: the controllers may have fenced it
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """A new incarnation, on the disk of the last."""
        assert not self.running
        self.running = True
        self.log_manager = LogManager.open(
            f"/broker-{self.broker_id}",
            node_id=self.broker_id,
            clock=self.clock,
            config=LogManagerConfig(
                checkpoint_interval_ms=5_000, recovery_threads=1, cleaner=LogCleanerConfig(backoff_ms=50)
            ),
            file_system=self.disk,
        )
        self.image = MetadataImage.empty()
        self.tasks = [asyncio.create_task(self._run(self.log_manager), name=f"broker-{self.broker_id}")]

    async def _run(self, log_manager: LogManager) -> None:
        previous = log_manager.previous_broker_epoch
        incarnation = self.cluster.random.randbytes(16)
        while True:
            response = await self._submit(
                Command(
                    request_id=self.cluster.random.randbytes(16),
                    register_broker=RegisterBrokerCommand(
                        broker_id=self.broker_id,
                        incarnation_id=incarnation,
                        endpoints=[EndpointRecord(name="GRPC", host="sim", port=self.broker_id)],
                        previous_broker_epoch=-1 if previous is None else previous,
                        killed_broker_epoch=log_manager.killed_broker_epoch,
                        log_dir_id=log_manager.log_dir_id.bytes,
                    ),
                )
            )
            if response.error_code == 0:
                break
            await asyncio.sleep(0.05)
        await log_manager.note_registered(BrokerEpoch(response.register_broker.broker_epoch))
        self.epoch = BrokerEpoch(response.register_broker.broker_epoch)
        self.manager = ReplicaManager(
            broker_id=self.broker_id,
            log_manager=log_manager,
            clock=self.clock,
            broker_epoch=lambda: self.epoch,
            submit=self._submit,
            config=ReplicaConfig(replica_lag_time_max_ms=LAG_MS, tick_ms=100),
            transport=SimulatedTransport(self.cluster, self.broker_id),
            random=self.cluster.random,
            on_fatal=self.cluster.fatal,
            in_touch=lambda: self.in_touch,
        )
        await self.manager.start()
        strays_done = False
        while True:
            await self.cluster.metadata_after(self)
            old, self.image = self.image, self.cluster.state.image
            await self.manager.on_metadata(old, self.image)
            if not strays_done and self.image.end_offset > self.epoch:
                self.manager.set_aside_strays(self.image)
                strays_done = True

    async def _submit(self, command: Command) -> CommandResponse:
        """As the controller client: retries for a while, then says that the outcome is not known."""
        deadline = self.cluster.loop.time() + 0.5
        random = self.cluster.random
        while self.cluster.loop.time() < deadline:
            await asyncio.sleep(random.choice(self.cluster.controller_delays_ms) / 1000)
            if self.cluster.controller_reachable(self.broker_id):
                response = self.cluster.submit(command)
                await asyncio.sleep(random.choice(self.cluster.controller_delays_ms) / 1000)
                # The answer may be lost though the command was carried out.
                if self.cluster.controller_reachable(self.broker_id) and random.random() > self.cluster.loss:
                    return response
            await asyncio.sleep(0.05)
        return CommandResponse(error_code=ErrorCode.REQUEST_TIMED_OUT)

    async def kill(self) -> None:
        """kill -9: what was written stays in the page cache; nothing else is done."""
        self.running = False
        self.cluster.break_streams(self.broker_id)
        tasks, self.tasks = self.tasks, []
        if self.manager is not None:
            # Its tasks die with the process; what they would do on cancellation touches no disk.
            partitions = self.manager._partitions
            tasks += [*partitions._tasks]
            tasks += [f._task for f in partitions._fetchers._fetchers.values() if f._task is not None]
        self.manager = None
        assert self.log_manager is not None
        log_manager, self.log_manager = self.log_manager, None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await log_manager.shutdown(clean=False)
        self.disk.crash()

    async def cut_power(self) -> None:
        """As `kill`, and what was not synced to the disk may be gone."""
        self.lost_data_in_epoch = self.epoch
        await self.kill()
        self.disk.power_cut(self.cluster.random)

    def segment(self, topic: str, number: int) -> str:
        """Path of the first segment of a partition here."""
        return f"/broker-{self.broker_id}/{topic}-{number}/00000000000000000000.log"

    async def stop(self) -> None:
        """A stop in good order, short of moving the leaderships first."""
        self.running = False
        manager, log_manager = self.manager, self.log_manager
        self.manager = self.log_manager = None
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []
        if manager is not None:
            await manager.shutdown()
        self.cluster.break_streams(self.broker_id)
        assert log_manager is not None
        await log_manager.shutdown(clean=manager is not None, broker_epoch=self.epoch)


class SimulatedCluster:
    """`brokers` brokers with ids 1, 2, ..."""

    def __init__(self, loop: VirtualLoop, random: Random, brokers: int = 3) -> None:
        self.loop = loop
        self.random = random
        self.state = ControllerState.empty()
        self.loss = 0.0
        self.delays_ms: tuple[float, ...] = (0.2, 0.2, 0.5, 1.0, 5.0)
        self.controller_delays_ms: tuple[float, ...] = (0.5, 1.0, 5.0)
        self.metadata_delays_ms: tuple[float, ...] = (0.5, 1.0, 3.0, 50.0)
        self.errors: list[Exception] = []
        self.brokers = {BrokerId(number): SimulatedBroker(self, BrokerId(number)) for number in range(1, brokers + 1)}
        self._cut: set[frozenset[int]] = set()  # pairs; 0 is the controller
        self._streams: list[SimulatedStream] = []
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.on_commit: list[Callable[[], None]] = []
        self._epoch = 0
        self.new_controller()

    @property
    def now_ms(self) -> int:
        return int(self.loop.now_s * 1000)

    @property
    def image(self) -> MetadataImage:
        return self.state.image

    # --- the controller --------------------------------------------------------------------------------------

    def new_controller(self) -> None:
        """Another controller becomes active: everybody gets a full session time-out."""
        self._epoch += 1
        self.submit(
            Command(
                become_controller=BecomeControllerCommand(
                    controller_id=1, controller_epoch=self._epoch, proposed_cluster_id="A" * 22
                )
            )
        )
        for broker in self.brokers.values():
            broker.last_seen_ms = self.now_ms

    def submit(self, command: Command) -> CommandResponse:
        stamped = Command()
        stamped.CopyFrom(command)
        stamped.time_ms = self.now_ms
        stamped.controller_epoch = self._epoch
        stamped.seed = self.random.getrandbits(64)
        if stamped.WhichOneof("command") == "create_topics":
            for topic in stamped.create_topics.topics:
                topic.topic_id = UUID(int=self.random.getrandbits(128), version=4).bytes
        before = self.state.image.end_offset
        applied = apply(self.state, stamped.SerializeToString())
        self.state = applied.state
        if self.state.image.end_offset != before:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            for check in self.on_commit:
                check()
        return applied.response

    def create_topic(self, name: str, assignments: list[list[int]], **configs: str) -> None:
        response = self.submit(
            Command(
                create_topics=CreateTopicsCommand(
                    topics=[
                        CreatableTopic(
                            name=name,
                            num_partitions=-1,
                            replication_factor=-1,
                            assignments=[
                                ReplicaAssignment(partition=n, broker_ids=ids) for n, ids in enumerate(assignments)
                            ],
                            configs={key.replace("_", "."): value for key, value in configs.items()},
                        )
                    ]
                )
            )
        )
        assert response.error_code == 0, response
        assert response.create_topics.topics[0].error_code == 0, response

    def delete_topic(self, name: str) -> None:
        self.submit(Command(delete_topics=DeleteTopicsCommand(topics=[TopicReference(name=name)])))

    def reassign(self, name: str, number: int, replicas: list[int]) -> None:
        """Moves a partition (KIP-455)."""
        wanted = ReassignablePartition(topic=name, partition=number, replicas=replicas)
        self.submit(Command(alter_partition_reassignments=AlterPartitionReassignmentsCommand(partitions=[wanted])))

    def configure(self, name: str, configs: Mapping[str, str | None]) -> None:
        """Sets a topic's keys; None: back to the default."""
        changes = [
            AlterableConfig(name=key, operation=ALTER_CONFIG_DELETE)
            if value is None
            else AlterableConfig(name=key, operation=ALTER_CONFIG_SET, value=value)
            for key, value in configs.items()
        ]
        resource = AlterConfigsResource(resource_type=CONFIG_RESOURCE_TOPIC, resource_name=name, configs=changes)
        self.submit(Command(incremental_alter_configs=IncrementalAlterConfigsCommand(resources=[resource])))

    def elect_preferred(self) -> None:
        self.submit(Command(elect_leaders=ElectLeadersCommand(all_partitions=True)))

    def fence(self, broker_id: BrokerId) -> None:
        epoch = self.image.brokers[broker_id].broker_epoch
        fenced = FencedBroker(broker_id=broker_id, broker_epoch=epoch)
        self.submit(Command(fence_brokers=FenceBrokersCommand(brokers=[fenced])))

    async def _watch_sessions(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            for broker in self.brokers.values():
                registered = self.image.brokers.get(broker.broker_id)
                if registered is None:
                    continue
                alive = (
                    broker.running
                    and broker.manager is not None
                    and broker.epoch == registered.broker_epoch
                    and self.controller_reachable(broker.broker_id)
                )
                if alive:
                    broker.last_seen_ms = self.now_ms
                    if registered.fenced and broker.image.end_offset > registered.broker_epoch:
                        unfence = UnfenceBrokerCommand(broker_id=broker.broker_id, broker_epoch=registered.broker_epoch)
                        self.submit(Command(unfence_broker=unfence))
                elif not registered.fenced and (
                    not broker.running or self.now_ms - broker.last_seen_ms > SESSION_TIMEOUT_MS
                ):
                    self.fence(broker.broker_id)

    async def metadata_after(self, broker: SimulatedBroker) -> None:
        """Returns when there is newer metadata, after the time that it takes to get there."""
        while True:
            changed = self._changed
            if self.image.end_offset > broker.image.end_offset and self.controller_reachable(broker.broker_id):
                await asyncio.sleep(self.random.choice(self.metadata_delays_ms) / 1000)
                if self.controller_reachable(broker.broker_id):
                    return
            elif self.image.end_offset > broker.image.end_offset:
                await asyncio.sleep(0.05)
            else:
                await changed.wait()

    # --- the network -----------------------------------------------------------------------------------------

    def linked(self, one: int, other: int) -> bool:
        return frozenset((one, other)) not in self._cut

    def controller_reachable(self, broker_id: BrokerId) -> bool:
        return self.linked(broker_id, 0)

    def cut(self, one: int, other: int, *, break_streams: bool) -> None:
        """Cuts a link (0: the controller). Streams over it hang, or break at once."""
        self._cut.add(frozenset((one, other)))
        if break_streams:
            for stream in list(self._streams):
                if {stream.follower, stream.leader} == {one, other}:
                    stream.break_off()

    def mend_all(self) -> None:
        self._cut.clear()
        for stream in self._streams:
            stream.mended()

    def opened(self, stream: SimulatedStream) -> None:
        leader = self.brokers[stream.leader]
        if not self.linked(stream.follower, stream.leader) or not leader.running or leader.manager is None:
            stream.break_off()
            return
        self._streams = [each for each in self._streams if not each.broken]
        self._streams.append(stream)
        leader.tasks.append(asyncio.create_task(self._serve(leader.manager, stream), name="serve"))

    async def _serve(self, manager: ReplicaManager, stream: SimulatedStream) -> None:
        try:
            await manager.streams.serve(stream.server)
        finally:
            stream.break_off()

    def break_streams(self, broker_id: BrokerId) -> None:
        for stream in self._streams:
            if broker_id in (stream.follower, stream.leader):
                stream.break_off()

    # --- all of it -------------------------------------------------------------------------------------------

    def fatal(self, error: Exception) -> None:
        self.errors.append(error)

    async def start(self) -> None:
        self._tasks.append(asyncio.create_task(self._watch_sessions(), name="sessions"))
        for broker in self.brokers.values():
            await broker.start()
        await self.until(lambda: len(self.image.brokers) == len(self.brokers) and self._all_active())

    def _all_active(self) -> bool:
        return all(broker.active for broker in self.image.brokers.values())

    async def until(self, condition: Callable[[], object], timeout_s: float = 60) -> None:
        """Lets virtual time pass until the condition holds."""
        deadline = self.loop.time() + timeout_s
        while not condition():
            assert self.loop.time() < deadline, f"waited {timeout_s} s in vain\n{self.describe()}"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for broker in self.brokers.values():
            if broker.running:
                await broker.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def partition(self, topic: str, number: int) -> PartitionImage:
        return self.image.topics[topic].partitions[number]

    def describe(self) -> str:
        """For failures: what everybody thinks."""
        lines = [str(each) for _, each in self.image.partitions()]
        for broker in self.brokers.values():
            registered = self.image.brokers.get(broker.broker_id)
            lines.append(
                f"broker {broker.broker_id} running={broker.running} epoch={broker.epoch} "
                f"metadata={broker.image.end_offset}/{self.image.end_offset} "
                f"registered={registered and (registered.broker_epoch, registered.fenced)}"
            )
            if broker.manager is None:
                continue
            for partition in broker.manager._partitions.by_key.values():
                log = partition.log
                lines.append(
                    f"  {partition} epoch={partition.leader_epoch} leader={partition.leader_id} "
                    f"log={log.log_start_offset}..{log.log_end_offset} hw={partition.high_watermark} "
                    f"epochs={[tuple(entry) for entry in log.epoch_cache.entries]}"
                )
                if partition.leader is not None:
                    state = partition.leader.state
                    lines.append(
                        f"    isr={sorted(state.isr.committed)} pending={state.isr.pending} "
                        f"followers={list(state.followers.values())}"
                    )
        return "\n".join(lines)
