"""Brokers come, go silent, come back and leave: registration, fencing, controlled shutdown (KIP-631, 841, 966).

A registered broker is in one of these states:

    from                   to                      when
    -                      fenced                  RegisterBroker
    fenced                 active                  UnfenceBroker: its heartbeats say it has replayed its registration
    active                 fenced                  FenceBrokers: its session is over
    active                 controlled shutdown     ControlledShutdown: it asks to leave
    controlled shutdown    fenced                  FenceBrokers: it is gone
    any                    fenced                  RegisterBroker of a new incarnation, under a new epoch
    fenced                 -                       UnregisterBroker

The records that take a broker out of ISRs stand before the one that changes its state, those that bring it back after
it: whoever sees only some of them sees no broker in an ISR that may not be there (rule 7).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from ..cluster.image import BrokerRegistration, MetadataImage, PartitionImage
from ..cluster.records import broker_change_record, unregister_broker_record
from ..cluster.topic_config import TopicConfig
from ..proto import command_pb2
from ..proto.command_pb2 import CommandResponse
from ..proto.errors import ErrorCode
from ..proto.identifiers import BrokerEpoch, BrokerId
from ..proto.metadata_pb2 import MetadataRecord, RegisterBrokerRecord
from .election import Election, LiveBrokers, PartitionChange, TopicRules
from .limits import BROKERS_MAX, ENDPOINTS_PER_BROKER_MAX, NAME_LENGTH_MAX
from .result import ControllerResult, ItemError, refused

_ID_LENGTH = 16


def broker_epoch_error(image: MetadataImage, broker_id: int, broker_epoch: int) -> ItemError | None:
    """Why a command from this broker, under this epoch, is refused; None if it is not (rule 11)."""
    broker = image.brokers.get(BrokerId(broker_id))
    if broker is None:
        return ItemError(ErrorCode.STALE_BROKER_EPOCH, f"broker {broker_id} is not registered")
    if broker.broker_epoch != broker_epoch:
        return ItemError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"broker {broker_id} is registered under epoch {broker.broker_epoch}, not {broker_epoch}",
        )
    return None


def decide_register_broker(image: MetadataImage, command: command_pb2.RegisterBrokerCommand) -> ControllerResult:
    """A broker process announces itself, or announces itself again because it missed the answer."""
    existing = image.brokers.get(BrokerId(command.broker_id))
    error = _registration_error(image, command, existing)
    if error is not None:
        return refused(error.error_code, error.message)
    if existing is not None and existing.incarnation_id == command.incarnation_id:
        records = []
        amended = _registration_record(
            command,
            existing.broker_epoch,
            fenced=existing.fenced,
            in_controlled_shutdown=existing.in_controlled_shutdown,
        )
        if BrokerRegistration.from_record(amended.register_broker) != existing:
            records.append(amended)
        return _registered(image, records, existing.broker_epoch)
    records = _records_of_new_incarnation(image, command, existing)
    # The epoch is the offset of the registration itself: it grows, and a broker knows when it has replayed it.
    broker_epoch = BrokerEpoch(image.end_offset + len(records))
    records.append(_registration_record(command, broker_epoch, fenced=True, in_controlled_shutdown=False))
    return _registered(image, records, broker_epoch)


def _registration_error(
    image: MetadataImage, command: command_pb2.RegisterBrokerCommand, existing: BrokerRegistration | None
) -> ItemError | None:
    if command.cluster_id and command.cluster_id != image.cluster_id:
        return ItemError(
            ErrorCode.INCONSISTENT_CLUSTER_ID,
            f"broker {command.broker_id} belongs to cluster {command.cluster_id}, this is {image.cluster_id}",
        )
    if (
        existing is not None
        and command.previous_incarnation_alive
        and existing.incarnation_id != command.incarnation_id
    ):
        return ItemError(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION,
            f"another process is alive under broker id {command.broker_id}; give each broker its own node.id",
        )
    if existing is None and len(image.brokers) >= BROKERS_MAX:
        return ItemError(ErrorCode.POLICY_VIOLATION, f"a cluster has at most {BROKERS_MAX} brokers")
    for broker in image.brokers.values():
        if broker.log_dir_id == command.log_dir_id and broker.broker_id != command.broker_id:
            return ItemError(
                ErrorCode.INVALID_REQUEST,
                f"the log folder of broker {command.broker_id} is the one broker {broker.broker_id} registered with; "
                "a copied folder cannot serve as another broker's",
            )
    problem = _registration_problem(command)
    return None if problem is None else ItemError(ErrorCode.INVALID_REQUEST, problem)


def _registration_problem(command: command_pb2.RegisterBrokerCommand) -> str | None:
    """What is malformed, in words."""
    if command.broker_id < 0:
        return f"broker id {command.broker_id} is below 0"
    if len(command.incarnation_id) != _ID_LENGTH or len(command.log_dir_id) != _ID_LENGTH:
        return f"incarnation id and log dir id are {_ID_LENGTH} bytes each"
    if not 1 <= len(command.endpoints) <= ENDPOINTS_PER_BROKER_MAX:
        return f"a broker has 1 to {ENDPOINTS_PER_BROKER_MAX} endpoints"
    if len(command.rack) > NAME_LENGTH_MAX:
        return f"broker.rack is longer than {NAME_LENGTH_MAX} characters"
    names = set()
    for endpoint in command.endpoints:
        if not endpoint.name or len(endpoint.name) > NAME_LENGTH_MAX or endpoint.name in names:
            return "each endpoint has a name of its own"
        if not endpoint.host or len(endpoint.host) > NAME_LENGTH_MAX or not 0 < endpoint.port < 65536:
            return f"endpoint {endpoint.name} needs a host and a port of 1 to 65535"
        names.add(endpoint.name)
    return None


def _records_of_new_incarnation(
    image: MetadataImage, command: command_pb2.RegisterBrokerCommand, existing: BrokerRegistration | None
) -> list[MetadataRecord]:
    """Takes the broker out of every ISR, and out of the ELR where its data is not to be trusted (rule 19, KIP-966)."""
    broker_id = BrokerId(command.broker_id)
    same_disk = existing is not None and existing.log_dir_id == command.log_dir_id
    clean = existing is not None and same_disk and command.previous_broker_epoch == existing.broker_epoch
    # Killed on a machine that went on: its logs are whole, for the kernel has what a process wrote.
    whole = existing is not None and same_disk and _killed_epoch(command) == existing.broker_epoch
    without = frozenset((broker_id,))
    live = LiveBrokers.of(image).without(without)

    def change(partition: PartitionImage, config: TopicConfig) -> PartitionChange | None:
        holds = broker_id in partition.isr or broker_id in partition.eligible_leader_replicas
        if not holds and (same_disk or partition.last_known_leader != broker_id):
            return None
        others = [member for member in (*partition.isr, *partition.eligible_leader_replicas) if member != broker_id]
        # The only holder of the data stays eligible whatever happened to it: the alternative is an unclean election of
        # the very same replica or of a worse one.
        trusted = clean or whole or (same_disk and not others)
        return PartitionChange(
            partition,
            live,
            config,
            election=_online_election(config),
            isr=tuple(member for member in partition.isr if member != broker_id),
            lost=frozenset() if trusted else without,
            wiped=frozenset() if same_disk else without,
        )

    return _change_partitions(image, change)


def _killed_epoch(command: command_pb2.RegisterBrokerCommand) -> int | None:
    return command.killed_broker_epoch if command.HasField("killed_broker_epoch") else None


def _registration_record(
    command: command_pb2.RegisterBrokerCommand,
    broker_epoch: BrokerEpoch,
    *,
    fenced: bool,
    in_controlled_shutdown: bool,
) -> MetadataRecord:
    return MetadataRecord(
        register_broker=RegisterBrokerRecord(
            broker_id=command.broker_id,
            incarnation_id=command.incarnation_id,
            broker_epoch=broker_epoch,
            endpoints=command.endpoints,
            rack=command.rack,
            fenced=fenced,
            in_controlled_shutdown=in_controlled_shutdown,
            log_dir_id=command.log_dir_id,
        )
    )


def _registered(image: MetadataImage, records: list[MetadataRecord], broker_epoch: BrokerEpoch) -> ControllerResult:
    result = command_pb2.RegisterBrokerResult(broker_epoch=broker_epoch, cluster_id=image.cluster_id or "")
    return ControllerResult(tuple(records), CommandResponse(register_broker=result))


def decide_fence_brokers(image: MetadataImage, command: command_pb2.FenceBrokersCommand) -> ControllerResult:
    """Fences those that are still registered under the epoch named and not fenced yet; the rest is left alone."""
    fenced = []
    for entry in command.brokers:
        broker = image.brokers.get(BrokerId(entry.broker_id))
        if broker is not None and broker.broker_epoch == entry.broker_epoch and not broker.fenced:
            fenced.append(broker)
    records = _removal_records(image, frozenset(broker.broker_id for broker in fenced)) if fenced else []
    for registration in {broker.broker_id: broker for broker in fenced}.values():
        records.append(
            broker_change_record(
                registration.broker_id,
                registration.broker_epoch,
                fenced=True,
                in_controlled_shutdown=registration.in_controlled_shutdown,
            )
        )
    return ControllerResult(tuple(records), CommandResponse())


def decide_unfence_broker(image: MetadataImage, command: command_pb2.UnfenceBrokerCommand) -> ControllerResult:
    """Unfences a broker; partitions without a leader for which it is fit get one."""
    broker_id = BrokerId(command.broker_id)
    broker = image.brokers.get(broker_id)
    if broker is None:
        return refused(ErrorCode.BROKER_ID_NOT_REGISTERED)
    if broker.broker_epoch != command.broker_epoch:
        return refused(ErrorCode.STALE_BROKER_EPOCH)
    if broker.in_controlled_shutdown:
        return refused(ErrorCode.INVALID_REQUEST, f"broker {broker_id} is shutting down; it has to register anew")
    if not broker.fenced:
        return ControllerResult((), CommandResponse())
    live = LiveBrokers.of(image).with_active(broker_id)

    def change(partition: PartitionImage, config: TopicConfig) -> PartitionChange | None:
        if partition.leader is not None or broker_id not in partition.replicas:
            return None
        return PartitionChange(partition, live, config, election=_online_election(config))

    unfenced = broker_change_record(broker_id, broker.broker_epoch, fenced=False, in_controlled_shutdown=False)
    return ControllerResult((unfenced, *_change_partitions(image, change)), CommandResponse())


def decide_controlled_shutdown(
    image: MetadataImage, command: command_pb2.ControlledShutdownCommand
) -> ControllerResult:
    """Moves leaderships off a broker and takes it out of ISRs, wherever another can lead (rule 26).

    It may be asked again; each time it does what has become possible. Where the broker is the last in the ISR and
    nobody can take over, it leads on until a replica catches up (`alter_partition.py`) or it is gone, rather than
    leave the partition without a leader any sooner.
    """
    error = broker_epoch_error(image, command.broker_id, command.broker_epoch)
    if error is not None:
        return refused(error.error_code, error.message)
    broker_id = BrokerId(command.broker_id)
    broker = image.brokers[broker_id]
    records: list[MetadataRecord] = []
    remaining = 0
    if not broker.fenced:
        live = LiveBrokers.of(image).without(frozenset((broker_id,)))
        rules = TopicRules(image)
        for topic, partition in image.partitions():
            if broker_id not in partition.isr:
                continue
            isr = tuple(member for member in partition.isr if member != broker_id)
            changed = PartitionChange(partition, live, rules.of(topic.name), isr=isr).build()
            if changed is not None and changed.leader is not None:
                records.append(changed.to_record())
            else:
                remaining += 1
        if not broker.in_controlled_shutdown:
            records.append(
                broker_change_record(broker_id, broker.broker_epoch, fenced=False, in_controlled_shutdown=True)
            )
    result = command_pb2.ControlledShutdownResult(remaining_leaderships=remaining)
    return ControllerResult(tuple(records), CommandResponse(controlled_shutdown=result))


def decide_unregister_broker(image: MetadataImage, command: command_pb2.UnregisterBrokerCommand) -> ControllerResult:
    """Forgets a broker that is gone for good. Its replicas stay assigned until they are reassigned."""
    broker_id = BrokerId(command.broker_id)
    broker = image.brokers.get(broker_id)
    if broker is None:
        return refused(ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker {broker_id} is not registered")
    if not broker.fenced:
        return refused(ErrorCode.INVALID_REQUEST, f"broker {broker_id} is alive; stop it before you unregister it")
    records = _removal_records(image, frozenset((broker_id,)), lost=True)
    records.append(unregister_broker_record(broker_id, broker.broker_epoch))
    return ControllerResult(tuple(records), CommandResponse())


def _removal_records(image: MetadataImage, gone: AbstractSet[BrokerId], *, lost: bool = False) -> list[MetadataRecord]:
    """Takes brokers out of every ISR, and with `lost` out of the ELR too."""
    live = LiveBrokers.of(image).without(gone)

    def change(partition: PartitionImage, config: TopicConfig) -> PartitionChange | None:
        holders = (*partition.isr, *partition.eligible_leader_replicas) if lost else partition.isr
        if gone.isdisjoint(holders):
            return None
        return PartitionChange(
            partition,
            live,
            config,
            election=_online_election(config),
            isr=tuple(member for member in partition.isr if member not in gone),
            lost=gone if lost else frozenset(),
            wiped=gone if lost else frozenset(),
        )

    return _change_partitions(image, change)


def _change_partitions(
    image: MetadataImage, change: Callable[[PartitionImage, TopicConfig], PartitionChange | None]
) -> list[MetadataRecord]:
    rules = TopicRules(image)
    records = []
    for topic in image.topics.values():
        config = rules.of(topic.name)
        for partition in topic.partitions:
            wanted = change(partition, config)
            changed = None if wanted is None else wanted.build()
            if changed is not None:
                records.append(changed.to_record())
    return records


def _online_election(config: TopicConfig) -> Election:
    return Election.UNCLEAN if config.unclean_leader_election_enable else Election.ONLINE
