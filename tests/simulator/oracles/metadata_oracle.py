"""What the controllers commit: rules 7, 8, 11, 19, 20 and 25, seen at each command that any of them applies.

7   the ISR is part of the assignment, holds the leader, and nobody who is fenced or leaves
8   a reassignment takes nothing from anybody before all whom it gives to are in sync (KIP-455)
11  an AlterPartition that was made under another leader, epoch or incarnation changes nothing
19  who did not stop cleanly is out of every ISR once it has registered anew
20  a broker is unfenced only when it acts on an image that has its registration
25  controllers apply the same records at the same offsets
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from klamm.cluster.image import MetadataImage, PartitionImage
from klamm.proto.command_pb2 import AlterPartitionCommand, Command
from klamm.proto.identifiers import BrokerId, TopicId, TopicIdPartition
from simulator.oracles.breach import Report

PartitionChanged = Callable[[str, PartitionImage | None, PartitionImage, MetadataImage], None]


class MetadataOracle:
    """Told of each command that a controller applied, with the records that it led to."""

    def __init__(
        self,
        report: Report,
        *,
        on_image: Callable[[MetadataImage], None],
        on_partition: PartitionChanged,
        stopped_cleanly: Callable[[int], bool],
        lost_data: Callable[[int, TopicIdPartition], int],
        acts_on: Callable[[int], int],
    ) -> None:
        """`stopped_cleanly(broker)`: of the process before the one that runs; `lost_data(broker, partition)`: the last
        broker epoch in which its disk lost something of it, -1 if none did; `acts_on(broker)`: the end of the image
        that its process acts on, -1 where there is none."""
        self.image = MetadataImage.empty()
        self.topic_lives: dict[str, list[tuple[TopicId, float, float]]] = {}  # id, made and deleted (seconds)
        self.removed: set[TopicId] = set()
        self.unassigned: set[tuple[int, TopicIdPartition]] = set()  # replicas that were taken from a broker once
        self._report = report
        self._on_image = on_image
        self._on_partition = on_partition
        self._stopped_cleanly = stopped_cleanly
        self._lost_data = lost_data
        self._acts_on = acts_on
        self._records: list[bytes] = []
        self._images: dict[int, MetadataImage] = {}

    def applied(
        self,
        controller_id: int,
        command: bytes,
        records: Sequence[bytes],
        image: MetadataImage,
        now_s: float,
    ) -> None:
        """A controller has applied a command; `records` end where `image` does."""
        first = image.end_offset - len(records)
        known = self._records[first : first + len(records)]
        for index, (theirs, record) in enumerate(zip(known, records, strict=False)):
            if theirs != record:
                self._report(
                    25, f"controller {controller_id} applied another metadata record at offset {first + index}"
                )
                return
        if len(known) == len(records):
            return
        if first > len(self._records):
            self._report(
                25, f"controller {controller_id} applied records from {first} on, {len(self._records)} is next"
            )
            return
        self._records += records[len(known) :]
        old, self.image = self.image, image
        self._images[image.end_offset] = image
        self._on_image(image)
        self._take(old, image, command, now_s)

    def restored(self, controller_id: int, image: MetadataImage) -> None:
        """A controller has taken a snapshot's state for its own."""
        known = self._images.get(image.end_offset)
        if known is not None and known != image:
            self._report(25, f"controller {controller_id} restored another state as of offset {image.end_offset}")

    def topic_id(self, name: str, begin_s: float, end_s: float) -> TopicId | None:
        """The topic of this name between two moments; None if there was none, or more than one."""
        lives = [life for life in self.topic_lives.get(name, ()) if life[1] <= end_s and life[2] >= begin_s]
        return lives[0][0] if len(lives) == 1 else None

    # --- what has changed ------------------------------------------------------------------------------------

    def _take(self, old: MetadataImage, new: MetadataImage, command: bytes, now_s: float) -> None:
        if new.topics is not old.topics:
            self._take_topics(old, new, now_s)
        if new.brokers is not old.brokers:
            for broker_id, broker in new.brokers.items():
                before = old.brokers.get(broker_id)
                if before is None or before.broker_epoch != broker.broker_epoch:
                    self._check_registered(broker_id, old, new)
                elif before.fenced and not broker.fenced:
                    self._check_unfenced(broker_id, int(broker.broker_epoch))
            for _, partition in new.partitions():
                self._check_isr(partition, new)
        parsed = Command.FromString(command)
        if parsed.WhichOneof("command") == "alter_partition":
            self._check_alter_partition(parsed.alter_partition, old, new)

    def _take_topics(self, old: MetadataImage, new: MetadataImage, now_s: float) -> None:
        for topic_id, name in old.topic_names.items():
            if topic_id not in new.topic_names:
                self.removed.add(topic_id)
                lives = self.topic_lives[name]
                lives[-1] = (*lives[-1][:2], now_s)
        for name, topic in new.topics.items():
            before = old.topics.get(name)
            if before is topic:
                continue
            if before is not None and before.topic_id != topic.topic_id:
                before = None
            if before is None:
                self.topic_lives.setdefault(name, []).append((topic.topic_id, now_s, float("inf")))
            known = () if before is None else before.partitions
            for partition in topic.partitions:
                last = known[partition.partition] if partition.partition < len(known) else None
                if last is not partition:
                    self._check_isr(partition, new)
                    self._check_reassigned(last, partition, new)
                    gone = set() if last is None else set(last.replicas) - set(partition.replicas)
                    self.unassigned |= {(broker_id, partition.topic_id_partition) for broker_id in gone}
                    self._on_partition(name, last, partition, new)

    def _check_reassigned(self, old: PartitionImage | None, new: PartitionImage, image: MetadataImage) -> None:
        """What a cancelled reassignment takes away again nobody counted on."""
        gone = set() if old is None else set(old.replicas) - set(new.replicas) - set(old.adding_replicas)
        if gone and not set(new.replicas) <= set(new.isr):
            self._report(
                8,
                f"{self._name(image, new)} was taken from the brokers {sorted(gone)} before those that it was given to "
                f"were in sync: {new}",
            )

    def _check_isr(self, partition: PartitionImage, image: MetadataImage) -> None:
        isr = set(partition.isr)
        problem = None
        if not isr <= set(partition.replicas):
            problem = "has members in the ISR that are no replicas"
        elif partition.leader is not None and partition.leader not in isr:
            problem = f"is led by broker {partition.leader} out of the ISR"
        for member in partition.isr:
            broker = image.brokers.get(member)
            if broker is None or broker.fenced:
                problem = f"has broker {member} in the ISR, which is fenced or not registered"
            elif broker.in_controlled_shutdown and partition.isr != (partition.leader,):
                problem = f"has broker {member} in the ISR, which is shutting down"
        if problem is not None:
            self._report(7, f"{self._name(image, partition)} {problem}, as of offset {image.end_offset}: {partition}")

    def _check_registered(self, broker_id: BrokerId, old: MetadataImage, new: MetadataImage) -> None:
        if self._stopped_cleanly(broker_id):
            return
        for _, partition in new.partitions():
            if broker_id in partition.isr:
                place = "in the ISR"
            elif broker_id in partition.eligible_leader_replicas:
                before = old.partition(partition.topic_id, partition.partition)
                holders = () if before is None else (*before.isr, *before.eligible_leader_replicas)
                lost_in = self._lost_data(broker_id, partition.topic_id_partition)
                if not set(holders) - {broker_id} or lost_in < old.brokers[broker_id].broker_epoch:
                    continue  # nobody else has the data, or its own is whole: kill -9 takes nothing away
                place = "eligible to lead"
            else:
                continue
            self._report(
                19,
                f"broker {broker_id} did not stop cleanly, registered anew under epoch "
                f"{new.brokers[broker_id].broker_epoch} and is {place} in {self._name(new, partition)}: {partition}",
            )

    def _check_unfenced(self, broker_id: BrokerId, broker_epoch: int) -> None:
        end_offset = self._acts_on(broker_id)
        if 0 <= end_offset <= broker_epoch:
            self._report(
                20,
                f"broker {broker_id} was unfenced under epoch {broker_epoch} while it acts on the metadata below "
                f"{end_offset}",
            )

    def _check_alter_partition(self, command: AlterPartitionCommand, old: MetadataImage, new: MetadataImage) -> None:
        sender = old.brokers.get(BrokerId(command.broker_id))
        for entry in command.partitions:
            topic_id = TopicId(bytes=entry.topic_id)
            before, after = old.partition(topic_id, entry.partition), new.partition(topic_id, entry.partition)
            if before is None or after is before:
                continue
            stale = (
                sender is None
                or sender.broker_epoch != command.broker_epoch
                or before.leader != command.broker_id
                or before.leader_epoch != entry.leader_epoch
                or before.partition_epoch != entry.partition_epoch
            )
            if stale:
                self._report(
                    11,
                    f"broker {command.broker_id} altered {self._name(new, before)} under broker epoch "
                    f"{command.broker_epoch}, leader epoch {entry.leader_epoch} and partition epoch "
                    f"{entry.partition_epoch}, which was: {before}",
                )
            for member in entry.new_isr:
                registered = old.brokers.get(BrokerId(member.broker_id))
                if registered is None or member.broker_epoch not in (-1, registered.broker_epoch):
                    self._report(
                        7,
                        f"broker {member.broker_id} joined the ISR of {self._name(new, before)} as of its incarnation "
                        f"{member.broker_epoch}, which is not the registered one",
                    )

    @staticmethod
    def _name(image: MetadataImage, partition: PartitionImage) -> str:
        return f"{image.topic_names.get(partition.topic_id, partition.topic_id)}-{partition.partition}"
