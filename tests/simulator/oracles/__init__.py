"""The rules of DESIGN.md section 6, held against a whole simulated cluster from outside of the code under test.

Each family of rules has a file of its own that knows nothing of a world: it is told what happens and says what breaks
a rule. This puts them together, tells them what they must know (`listening.py` at once, `step` now and then), and
raises what they found. Rules that nobody breaks without breaking another here are not looked at twice: 9 and 10 (5 and
3), 26 (a send that fails for sure while brokers stop is one of 16 or of a client that gives up), 28 (all of them).
"""

from __future__ import annotations

from typing import Final

from klamm.broker.groups.consumer_group import ConsumerGroup
from klamm.broker.groups.offsets_topic import OFFSETS_TOPIC, partition_of
from klamm.broker.groups.shard import GroupShard
from klamm.broker.log.errors import LogDirectoryError
from klamm.broker.log.partition_log import PartitionLog
from klamm.broker.partition import Partition
from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.proto.errors import CorruptRecordError, KafkaStorageError, KafkaTimeoutError
from klamm.proto.identifiers import BrokerId, TopicIdPartition, TopicPartition
from simulator import world as world_module
from simulator.ledger import Send
from simulator.oracles.breach import Breach, Findings
from simulator.oracles.commit_oracle import CommitOracle
from simulator.oracles.compaction_oracle import CompactionOracle, Context
from simulator.oracles.departure_oracle import DepartureOracle
from simulator.oracles.door_oracle import DoorOracle
from simulator.oracles.group_oracle import GroupOracle
from simulator.oracles.listening import listen
from simulator.oracles.liveness import what_is_missing
from simulator.oracles.log_oracle import LogOracle
from simulator.oracles.metadata_oracle import MetadataOracle
from simulator.oracles.promise_oracle import PromiseOracle, WholeLog
from simulator.oracles.quorum_oracle import QuorumOracle
from simulator.oracles.raft_oracle import RaftOracle
from simulator.oracles.replica_logs import ReplicaLog, ReplicaLogs
from simulator.oracles.replica_oracle import ReplicaOracle
from simulator.oracles.sight import (
    LOG_DIR,
    acts_on,
    current_node_id,
    leader_view,
    offsets_by_key,
    raft_view,
    replicas,
    serving_server,
    whole_log,
)
from simulator.world import BrokerNode, Node, World

__all__ = ["Breach", "Oracles"]

_UNRESOLVED_S: Final = 300.0
_LATE_S: Final = 5.0
"""After a leader of an older epoch is gone, what it said may still lie in connections and in clients."""
_CLEAN_MARKER: Final = f"{LOG_DIR}/.kafka_cleanshutdown"


class Oracles:
    """Made once the world is as it is to run; `step` every few milliseconds, `finish` once all is healed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.findings = Findings()
        self.logs = ReplicaLogs()
        report = self.findings.report
        self.commits = CommitOracle(self.logs, report)
        self.log_oracle = LogOracle(self.logs, report, self.commits.leader_of)
        self.metadata = MetadataOracle(
            report,
            on_image=self._take_image,
            on_partition=self._partition_changed,
            stopped_cleanly=self._stopped_cleanly,
            lost_data=self.commits.lost_in,
            acts_on=self._acts_on,
        )
        self.raft = RaftOracle(report)
        self.quorum = QuorumOracle(report, len(world.controllers))
        self.doors = DoorOracle(report)
        self.groups = GroupOracle(report)
        self.promises = PromiseOracle(report)
        self.replicas = ReplicaOracle(self.logs, report)
        self.compactions = CompactionOracle(report, self._begin_of_file, self._context_of_cleaning)
        self.departures = DepartureOracle(report, lambda: self.metadata.image)
        self.hosted: set[tuple[int, int, TopicIdPartition]] = set()
        self.decay: set[tuple[int, TopicIdPartition]] = set()
        self.faulty_disks: set[int] = set()
        self.power_cuts: set[int] = set()  # whose disk nobody has looked at since
        self._runs: dict[str, int] = {}
        self._was_clean: dict[int, bool] = {}
        self._incarnations: set[bytes] = set()
        self._first_epochs: dict[tuple[int, int], int] = {}
        self._seen: dict[Partition, tuple[object, ...]] = {}
        self._sends_taken = self._owned_taken = self._failures_taken = 0
        self._unresolved: list[Send] = []
        self.unclean_elections: dict[
            TopicIdPartition, float
        ] = {}  # when anybody last led under what an unclean election ended
        self._steps = 0
        self._image_seen: MetadataImage | None = None
        self._hooks = listen(self)
        self._hooks.after(world_module, "_bury", lambda *_: self._hooks.close())

    @property
    def now_s(self) -> float:
        return self.world.loop.time()

    # --- the contract ----------------------------------------------------------------------------------------

    def step(self) -> None:
        """:raises Breach: a rule is broken."""
        self._steps += 1
        self._look_at_failures()
        image = self.metadata.image
        image_moved, self._image_seen = image is not self._image_seen, image
        for node in self.world.brokers.values():
            if _has_moved(node) or (image_moved and node.running):
                self._look_at_replicas(node)
        for controller in self.world.controllers.values():
            view = raft_view(controller, self.run_of(controller.name)) if _has_moved(controller) else None
            if view is not None:
                self.raft.saw(view)
        if self._steps % 5 == 0:
            self._look_at_ledger()
        if self._steps % 10 == 0:
            self._look_at_groups()
        self.findings.raise_first()

    def healed(self) -> str | None:
        """What is still missing, in one sentence; None: nothing."""
        return what_is_missing(self.world)

    async def finish(self) -> None:
        """All is healed and the clients are done. :raises Breach: a rule is broken."""
        self.step()
        self._look_at_ledger()
        self._look_at_groups()
        image = self.metadata.image
        for topic, state in image.partitions():
            self._finish_partition(topic.name, state)
        for node in self.world.brokers.values():
            server = serving_server(node)
            if server is not None:
                for shard in server._groups._shards.values():
                    self.check_offsets(node.broker_id, shard)
        self.findings.raise_first()

    def _finish_partition(self, name: str, state: PartitionImage) -> None:
        partition = state.topic_id_partition
        compacted = partition in self.logs.compacted
        logs = [self._whole_log(self.world.brokers[broker_id], partition) for broker_id in state.replicas]
        found = [log for log in logs if log is not None]
        if not found:
            return
        self.promises.replicas(f"{name}-{state.partition}", found, compacted=compacted)
        leaders = next((log for log in found if log.broker_id == state.leader), found[0])
        since_s = self.commits.of(partition).promised_since_s
        ledger = self.world.ledger
        sends = [
            send
            for send in ledger.sends
            if send.place == (name, state.partition)
            and (send.acked_s is None or (send.acked_s > since_s and self._is_promised(partition, send.acked_s)))
            and self.metadata.topic_id(name, send.sent_s, send.acked_s or self.now_s) == state.topic_id
        ]
        polls = [
            poll
            for poll in ledger.polls
            if poll.place == (name, state.partition)
            and poll.at_s > since_s
            and self._is_promised(partition, poll.at_s)
            and self.metadata.topic_id(name, poll.at_s - 60, poll.at_s) == state.topic_id
        ]
        unknown = {send.key for send in ledger.sends if send.value is None and send.acked_s is None and not send.failed}
        self.promises.partition(
            f"{name}-{state.partition}", leaders, sends, polls, compacted=compacted, maybe_deleted=unknown
        )

    def _whole_log(self, node: BrokerNode, partition: TopicIdPartition) -> WholeLog | None:
        replica = next((each for each in replicas(node) if each.topic_id_partition == partition), None)
        if replica is None or (node.broker_id, partition) in self.decay:
            return None  # no CRC covers a batch's base offset: its records would only seem to be elsewhere
        try:
            return whole_log(node, replica)
        except CorruptRecordError as error:
            self.findings.report(18, f"the log of {replica} on {node.name} is damaged: {error}")
            return None

    # --- what is looked at in every step ---------------------------------------------------------------------

    def _look_at_failures(self) -> None:
        self.faulty_disks |= {node.broker_id for node in self.world.brokers.values() if node.disk.capacity is not None}
        self.commits.distrusted |= self.faulty_disks
        failures = self.world.failures[self._failures_taken :]
        self._failures_taken += len(failures)
        for where, error in failures:
            if not self._was_provoked(where, error):
                self.findings.report(0, f"unforeseen: {where} failed with {error!r}")

    def _was_provoked(self, where: str, error: BaseException) -> bool:
        if isinstance(error, KafkaTimeoutError):
            return True  # a broker that could not register for a minute gives up
        disks_errors = (OSError, KafkaStorageError, LogDirectoryError)
        is_disks = isinstance(error, disks_errors) or isinstance(error.__cause__, OSError)
        return is_disks and any(where.startswith(f"broker-{broker_id}") for broker_id in self.faulty_disks)

    def _look_at_replicas(self, node: BrokerNode) -> None:
        for partition in replicas(node):
            log, leader = partition.log, partition.leader
            if leader is not None:
                committed = self.metadata.image.partition(*partition.topic_id_partition)
                self.replicas.leads(leader.state, committed, str(partition))
                if committed is not None and committed.leader_epoch > leader.state.leader_epoch:
                    self._is_deposed(partition.topic_id_partition)
            now = (partition.high_watermark, log.log_end_offset, partition.leader_epoch, leader, partition.failure)
            before = self._seen.get(partition)
            if before == now:
                continue
            self._seen[partition] = now
            self._look_at(node, partition, before)

    def _look_at(self, node: BrokerNode, partition: Partition, before: tuple[object, ...] | None) -> None:
        log, key = partition.log, partition.topic_id_partition
        name = self.logs.name(key)
        known = self.logs.of(node.broker_id, key)
        if known.end_offset != log.log_end_offset and known.batches:
            self.findings.report(
                0,
                f"the log of {name} on broker {node.broker_id} ends at {log.log_end_offset}; what was appended to it "
                f"ends at {known.end_offset}",
            )
        if not log.log_start_offset <= partition.high_watermark <= log.log_end_offset:
            self.findings.report(
                4,
                f"{name} on broker {node.broker_id}: the high watermark {partition.high_watermark} is not within the "
                f"log, {log.log_start_offset} to {log.log_end_offset}",
            )
        self.replicas.has(node.broker_id, key, partition.high_watermark, log.log_start_offset)
        epoch_before = before[2] if before is not None else None
        if isinstance(epoch_before, int) and (partition.leader_epoch is None or partition.leader_epoch < epoch_before):
            self.findings.report(
                1, f"the leader epoch of {name} fell from {epoch_before} to {partition.leader_epoch} on {node.name}"
            )
        view = leader_view(partition, self.run_of(node.name))
        if view is not None:
            failed = partition.failure is not None
            self.commits.led(view, log.log_end_offset, log.epoch_cache.latest_epoch, failed=failed)

    def _look_at_ledger(self) -> None:
        ledger = self.world.ledger
        self._unresolved += ledger.sends[self._sends_taken :]
        self._sends_taken = len(ledger.sends)
        waiting = []
        too_old_s = self.now_s - _UNRESOLVED_S
        for send in self._unresolved:
            if send.acked_s is None:
                if send.failed is None and send.sent_s > too_old_s:
                    waiting.append(send)
            elif send.strong and send.offset is not None:
                topic_id = self.metadata.topic_id(send.place.topic, send.sent_s, send.acked_s)
                if topic_id is None:
                    continue
                partition = TopicIdPartition(topic_id, send.place.partition)
                if self._is_promised(partition, send.acked_s):
                    self.commits.acked(partition, send.offset, send.producer)
        self._unresolved = waiting
        self.groups.owned(ledger.owned[self._owned_taken :], self._group_promised_since_s)
        self._owned_taken = len(ledger.owned)

    def _group_promised_since_s(self, group: str) -> float:
        topic = self.metadata.image.topics.get(OFFSETS_TOPIC)
        if topic is None:
            return -1.0
        state = topic.partitions[partition_of(group, len(topic.partitions))]
        return self.commits.of(state.topic_id_partition).promised_since_s

    def _look_at_groups(self) -> None:
        image = self.metadata.image
        for node in self.world.brokers.values():
            server = serving_server(node) if node.running else None
            if server is None:
                continue
            for shard in server._groups._shards.values():
                for group_id, entry in shard.entries.items():
                    if isinstance(entry.group, ConsumerGroup):
                        state = entry.group._state
                        members = {
                            member.member_id: [
                                TopicPartition(image.topic_names.get(topic_id, str(topic_id)), number)
                                for held in (member.assigned_partitions, member.partitions_pending_revocation)
                                for topic_id, numbers in held.items()
                                for number in numbers
                            ]
                            for member in state.members.values()
                        }
                        self.groups.assigned(group_id, state.group_epoch, members)

    # --- what the ears tell ----------------------------------------------------------------------------------

    def _is_deposed(self, partition: TopicIdPartition) -> None:
        """A leader goes on under an epoch that is over, and does not know it. After an unclean election what it says
        is worth nothing: nobody else need have it, not even what its own ISR had."""
        if partition in self.unclean_elections:
            self.unclean_elections[partition] = self.now_s

    def _is_promised(self, partition: TopicIdPartition, at_s: float) -> bool:
        """What a client was told then binds: no leader that an unclean election has deposed can have said it."""
        return at_s > self.unclean_elections.get(partition, float("-inf")) + _LATE_S

    def starts(self, node: Node) -> None:
        """A process is about to start."""
        self._runs[node.name] = self._runs.get(node.name, 0) + 1
        if isinstance(node, BrokerNode):
            self._was_clean[node.broker_id] = _CLEAN_MARKER in node.disk.files

    def run_of(self, name: str) -> int:
        """How many processes this node has had."""
        return self._runs.get(name, 0)

    def registered_epoch(self, broker_id: int) -> int:
        """The newest that is committed; -1: none."""
        registered = self.metadata.image.brokers.get(BrokerId(broker_id))
        return -1 if registered is None else int(registered.broker_epoch)

    def first_epoch(self, node: BrokerNode) -> int:
        """Under which the process registered first."""
        key = (node.broker_id, self.run_of(node.name))
        epoch = self._first_epochs.get(key)
        if epoch is None:
            epoch = self._first_epochs[key] = node.epoch
        return epoch

    def decayed(self, node: BrokerNode, path: str) -> None:
        """A bit of a file has flipped."""
        name = path.removeprefix(LOG_DIR + "/").partition("/")[0]
        for partition, log in self.logs.on(node.broker_id):
            if self.logs.name(partition) == name:
                log.intact = False
                self.decay.add((node.broker_id, partition))
                self.commits.distrusted.add(node.broker_id)
                epoch = max(node.epoch, self.registered_epoch(node.broker_id))
                self.commits.lost_data(node.broker_id, epoch, partition)

    def cut(self, log: PartitionLog, partition: TopicIdPartition, offset: int, *, restarted: bool) -> None:
        """A log was truncated, or emptied; it was to end at `offset`."""
        process = self._current_broker()
        replica = next((each for each in replicas(process) if each.log is log), None)
        damaged = (process.broker_id, partition) in self.decay
        leader_id: int | None = None
        leader_start = 0
        if replica is not None and replica.leader is None and replica.leader_id is not None:
            leader_id = int(replica.leader_id)
            theirs = [
                each
                for each in replicas(self.world.brokers[leader_id])
                if each.topic_id_partition == partition and self.world.brokers[leader_id].running
            ]
            leader_start = theirs[0].log.log_start_offset if theirs else 0
        if damaged or (restarted and (partition in self.logs.compacted or (replica is not None and replica.refetch))):
            leader_id = None
        if restarted:
            self.log_oracle.restarted(process.broker_id, partition, log.log_end_offset, leader_id, leader_start)
            self.compactions.forget(process.broker_id, partition)
            self.decay.discard((process.broker_id, partition))
            self.logs.of(process.broker_id, partition).intact = True
        else:
            self.log_oracle.truncated(
                process.broker_id, partition, log.log_end_offset, leader_id, leader_start, asked=offset
            )
            if self.compactions.was_cleaned(process.broker_id, partition) and not damaged:
                present = offsets_by_key(process, log)
                self.compactions.truncated(process.broker_id, partition, log.log_end_offset, present)
            latest = log.epoch_cache.latest_start_offset
            if latest is not None and latest >= log.log_end_offset:
                self.findings.report(
                    14,
                    f"broker {process.broker_id} truncated {self.logs.name(partition)} to {log.log_end_offset}, and "
                    f"epoch {log.epoch_cache.latest_epoch} still begins at {latest} in its cache",
                )
        if not damaged:
            self.commits.truncated(process.broker_id, partition, log.log_end_offset)
            self.check_epochs(log, partition)

    def check_epochs(self, log: PartitionLog, partition: TopicIdPartition) -> None:
        """Rules 14 and 17, of a log of the broker whose code runs, which was cut or opened."""
        broker_id = self._current_broker().broker_id
        # After a crash the epoch checkpoint may remember a log start that its own checkpoint does not, as in Kafka.
        self.log_oracle.check_epochs(
            broker_id,
            partition,
            log.epoch_cache.entries,
            log.log_start_offset,
            log.log_end_offset,
            known_from=max(log.log_start_offset, self.logs.of(broker_id, partition).deleted_below),
        )
        self.replicas.check_producers(broker_id, partition, log)

    def _begin_of_file(self, path: str, size: int) -> bytes:
        return bytes(self._current_broker().disk.files[path].data[:size])

    def _context_of_cleaning(self, directory: str) -> Context | None:
        node = self._current_broker()
        replica = next((each for each in replicas(node) if each.log.directory == directory), None)
        if replica is None or (node.broker_id, replica.topic_id_partition) in self.decay:
            return None
        key = replica.topic_id_partition
        committed = self.commits.of(key)
        known = not committed.given_up and committed.promised_since_s < 0
        later = offsets_by_key(node, replica.log)
        return node.broker_id, key, later, committed.end_offset if known else None

    def log_missing(self, node: BrokerNode, partition: TopicIdPartition, known: ReplicaLog) -> None:
        """A broker started without a log that it had."""
        gone = partition.topic_id in self.metadata.removed or (node.broker_id, partition) in self.metadata.unassigned
        if known.batches and not gone and node.broker_id not in self.power_cuts:
            self.findings.report(
                24, f"broker {node.broker_id} started without the log of {self.logs.name(partition)} that it had"
            )
        self.logs.drop(node.broker_id, partition)
        self.compactions.forget(node.broker_id, partition)

    def clocks_are_far_off(self) -> bool:
        """Some broker's wall clock was moved by more than a day."""
        return any(
            abs(node.process.wall_offset_ms) > 86_400_000 for node in self.world.nodes if node.process is not None
        )

    def check_offsets(self, broker_id: int, shard: GroupShard) -> None:
        """A coordinator serves, or has to at the end."""
        log = shard.log
        topic = self.metadata.image.topics.get(OFFSETS_TOPIC)
        number = log.partition
        if topic is None or topic.topic_id != shard.topic_id:
            return
        state = topic.partitions[number]
        if state.leader != broker_id or state.leader_epoch != log.leader_epoch:
            return  # deposed, and does not know it yet: it may show what was true, and acks nothing
        committed = {
            group: {key: int(value.offset) for key, value in shard.offsets.committed(group).items()}
            for group in shard.offsets.group_ids()
        }
        self.groups.shows(
            f"broker {broker_id}, which coordinates {OFFSETS_TOPIC}-{number} in epoch {log.leader_epoch},",
            number,
            committed,
            since_s=self.commits.of(state.topic_id_partition).promised_since_s,
            may_expire=self.clocks_are_far_off(),
        )

    def _current_broker(self) -> BrokerNode:
        return self.world.brokers[current_node_id()]

    # --- what metadata asks and tells ------------------------------------------------------------------------

    def _take_image(self, image: MetadataImage) -> None:
        self.commits.image = image

    def _partition_changed(
        self, name: str, old: PartitionImage | None, new: PartitionImage, image: MetadataImage
    ) -> None:
        self.commits.changed(name, old, new, image, self.now_s)
        committed = self.commits.of(new.topic_id_partition)
        if committed.given_up:
            self.log_oracle.lost_promises.add(new.topic_id_partition)
        if new.topic_id_partition not in self.log_oracle.lost_promises:
            key = new.topic_id_partition
            # A power cut is known with the next registration: until then the broker cannot be elected, being fenced.
            bound = (member for member in new.eligible_leader_replicas if self.commits.is_bound(member, key, image))
            self.replicas.eligible(key, map(int, bound))
        if new.recovering and (old is None or not old.recovering):
            self.unclean_elections[new.topic_id_partition] = self.now_s
            place = (name, new.partition)
            asked = place in self.world.ledger.unclean or image.topic_config(name).unclean_leader_election_enable
            if not asked:
                self.findings.report(3, f"an unclean election of {name}-{new.partition} that nobody asked for: {new}")

    def _stopped_cleanly(self, broker_id: int) -> bool:
        node = self.world.brokers[broker_id]
        server = serving_server(node)
        registered = self.metadata.image.brokers[BrokerId(broker_id)]
        if registered.incarnation_id in self._incarnations:
            return True  # the same process, which has all its log
        self._incarnations.add(registered.incarnation_id)
        registration = None if server is None else server._lifecycle._registration
        if registration is None or registration.incarnation_id != registered.incarnation_id:
            return True  # that process is gone already; the next one registers too
        return self._was_clean.get(broker_id, True)

    def _acts_on(self, broker_id: int) -> int:
        node = self.world.brokers[broker_id]
        if not node.running or node.epoch != self.registered_epoch(broker_id):
            return -1
        return acts_on(node)


def _has_moved(node: Node) -> bool:
    """True where code of a running node's process has run since this was asked: all else is as it was."""
    process = node.process
    if process is None or not process.alive or not process.has_run:
        return False
    process.has_run = False
    return True
