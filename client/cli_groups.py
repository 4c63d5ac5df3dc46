"""What `klamm groups ...` does."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import typer

from ..proto.errors import GroupIdNotFoundError, KafkaError, NonEmptyGroupError, UnknownTopicOrPartitionError
from ..proto.identifiers import TopicPartition
from .admin import Admin
from .cli_consume import parse_time
from .cli_output import connected_admin, print_json, print_table
from .positions import EARLIEST, LATEST
from .structs import GroupDescription, MemberDescription, OffsetAndMetadata

_DURATION: Final = re.compile(
    r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.IGNORECASE
)
_DURATION_UNITS_S: Final = (7 * 86_400, 86_400, 3600, 60, 1)
_NO_MEMBERS: Final = ("Empty", "Dead")

Scope = dict[str, frozenset[int]]
"""Topics with the partitions meant; none: all."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Where to: exactly one of these."""

    timestamp: int | None = None  # EARLIEST, LATEST or ms since 1970
    offset: int | None = None
    shift: int | None = None
    current: bool = False


class PartitionState(NamedTuple):
    """Where a group is in one partition."""

    topic: str
    partition: int
    current_offset: int | None
    log_end_offset: int | None
    lag: int | None
    member_id: str | None
    host: str | None
    client_id: str | None


def parse_reset(given: dict[str, Any]) -> Reset:
    """The one option that says where to. :raises typer.BadParameter: it is none, or there is not just one."""
    if len(given) != 1:
        raise typer.BadParameter(
            "give one of --to-earliest, --to-latest, --to-current, --to-offset, --shift-by, --by-duration and "
            "--to-datetime"
        )
    [(name, value)] = given.items()
    match name:
        case "to-earliest":
            return Reset(timestamp=EARLIEST)
        case "to-latest":
            return Reset(timestamp=LATEST)
        case "to-offset":
            return Reset(offset=value)
        case "shift-by":
            return Reset(shift=value)
        case "by-duration":
            return Reset(timestamp=max(0, int(time.time() * 1000) - _duration_ms(value)))
        case "to-datetime":
            return Reset(timestamp=parse_time(value, "--to-datetime"))
    return Reset(current=True)


def _duration_ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise typer.BadParameter(f"{text!r} is no ISO 8601 duration such as PT1H30M or P7D", param_hint="--by-duration")
    parts = zip(found.groups(), _DURATION_UNITS_S, strict=True)
    return int(sum(float(part) * unit for part, unit in parts if part) * 1000)


def parse_scope(texts: list[str]) -> Scope:
    """ "TOPIC" and "TOPIC:0,2" texts. :raises typer.BadParameter: one is none."""
    scope: dict[str, frozenset[int]] = {}
    for text in texts:
        topic, separator, numbers = text.partition(":")
        listed = numbers.split(",") if separator else []
        if not topic or not all(number.isascii() and number.isdigit() for number in listed):
            raise typer.BadParameter(f"{text!r} is not TOPIC or TOPIC:P,P...", param_hint="--topic")
        partitions = frozenset(map(int, listed))
        known = scope.get(topic)
        scope[topic] = partitions if known is None else known | partitions if known and partitions else frozenset()
    return scope


def list_all(bootstrap_servers: str | None, states: list[str], as_json: bool) -> None:
    """Prints every group."""
    with connected_admin(bootstrap_servers) as admin:
        groups = admin.list_consumer_groups(states)
    if as_json:
        print_json([group._asdict() for group in groups])
    elif groups:
        rows = [(group.group_id, group.state, group.type, group.protocol_type or None) for group in groups]
        print_table(("group", "state", "type", "protocol type"), rows)
    else:
        print("There are no groups." if not states else f"No group is {' or '.join(states)}.")


def describe(bootstrap_servers: str | None, group_ids: list[str] | None, view: str, as_json: bool) -> None:
    """Prints groups: "offsets" with lag, "members", or "state"."""
    with connected_admin(bootstrap_servers) as admin:
        names = [group.group_id for group in admin.list_consumer_groups()] if group_ids is None else group_ids
        groups = list(admin.describe_consumer_groups(names).values())
        states = {group.group_id: _partition_states(admin, group) for group in groups} if view == "offsets" else {}
    if as_json:
        print_json([_document(group, states.get(group.group_id)) for group in groups])
        return
    if not groups:
        print("There are no groups.")
    for group in groups:
        members = f"{len(group.members)} member{'' if len(group.members) == 1 else 's'}"
        print(f"group {group.group_id}   {group.state}   {members}")
        if view == "state":
            row = (group.coordinator, group.type, group.protocol_type or None, group.protocol or None)
            print_table(("coordinator", "type", "protocol type", "assignor"), [row])
        elif view == "members":
            _print_members(group)
        else:
            _print_offsets(states[group.group_id])


def _print_members(group: GroupDescription) -> None:
    columns = ("member", "instance", "host", "client id", "partitions", "assignment")
    print_table(columns, [_member_row(member) for member in group.members])


def _member_row(member: MemberDescription) -> tuple[object, ...]:
    assigned = ", ".join(map(str, member.assignment)) or None
    count = len(member.assignment)
    return (member.member_id, member.group_instance_id, member.host, member.client_id, count, assigned)


def _print_offsets(states: list[PartitionState]) -> None:
    columns = ("topic", "partition", "current offset", "log end offset", "lag", "member", "host", "client id")
    if states:
        print_table(columns, states)
    else:
        print("It has committed nothing, and nobody reads.")


def _partition_states(admin: Admin, group: GroupDescription) -> list[PartitionState]:
    committed = admin.list_consumer_group_offsets(group.group_id)
    readers = {partition: member for member in group.members for partition in member.assignment}
    partitions = sorted({*committed, *readers})
    ends = _offsets_at(admin, partitions, LATEST)
    states = []
    for partition in partitions:
        offset = committed[partition].offset if partition in committed else None
        end = ends.get(partition)
        lag = None if offset is None or end is None else max(0, end - offset)
        member = readers.get(partition)
        who = (None, None, None) if member is None else (member.member_id, member.host, member.client_id)
        states.append(PartitionState(*partition, offset, end, lag, *who))
    return states


def _offsets_at(admin: Admin, partitions: list[TopicPartition], timestamp: int) -> dict[TopicPartition, int]:
    """Offsets of those partitions that exist and have a leader."""
    wanted = {partition.topic for partition in partitions}
    known = [topic for topic in admin.describe_topics() if topic.name in wanted] if wanted else []
    led = {TopicPartition(topic.name, p.partition) for topic in known for p in topic.partitions if p.leader is not None}
    asked: dict[TopicPartition | tuple[str, int], int] = dict.fromkeys(led.intersection(partitions), timestamp)
    found = admin.list_offsets(asked)
    return {partition: entry.offset for partition, entry in found.items() if entry is not None}


def reset_offsets(
    bootstrap_servers: str | None, group_id: str, scope: Scope | None, reset: Reset, execute: bool, as_json: bool
) -> None:
    """Computes new offsets, and with `execute` commits them. :raises NonEmptyGroupError: the group has members."""
    with connected_admin(bootstrap_servers) as admin:
        _check_empty(admin, group_id)
        committed = admin.list_consumer_group_offsets(group_id)
        partitions = sorted(committed) if scope is None else _partitions_in(admin, scope)
        if not partitions:
            raise KafkaError(f"group {group_id!r} has committed nothing")
        new = _new_offsets(admin, partitions, committed, reset)
        if execute:
            admin.alter_consumer_group_offsets(group_id, {name: OffsetAndMetadata(at) for name, at in new.items()})
    old = {partition: entry.offset for partition, entry in committed.items()}
    if as_json:
        rows = [
            {"topic": name.topic, "partition": name.partition, "old_offset": old.get(name), "new_offset": offset}
            for name, offset in new.items()
        ]
        print_json({"group_id": group_id, "executed": execute, "offsets": rows})
        return
    columns = ("group", "topic", "partition", "old offset", "new offset")
    print_table(columns, [(group_id, *name, old.get(name), offset) for name, offset in new.items()])
    if not execute:
        print("This is what would be. To do it: --execute")


def _check_empty(admin: Admin, group_id: str) -> None:
    try:
        group = admin.describe_consumer_groups([group_id])[group_id]
    except GroupIdNotFoundError:
        return  # its first commit makes it
    if group.state not in _NO_MEMBERS:
        raise NonEmptyGroupError(
            f"group {group_id!r} is {group.state} and has {len(group.members)} members; stop them first: they would "
            "not notice, and commit over it"
        )


def _partitions_in(admin: Admin, scope: Scope) -> list[TopicPartition]:
    partitions = []
    for topic in admin.describe_topics(scope):
        known = {partition.partition for partition in topic.partitions}
        missing = sorted(scope[topic.name] - known)
        if missing:
            raise UnknownTopicOrPartitionError(f"topic {topic.name!r} has no partition {missing[0]}")
        partitions += [TopicPartition(topic.name, number) for number in scope[topic.name] or known]
    return sorted(partitions)


def _new_offsets(
    admin: Admin, partitions: list[TopicPartition], committed: dict[TopicPartition, OffsetAndMetadata], reset: Reset
) -> dict[TopicPartition, int]:
    """Where each partition is to go on, within its log (as Kafka's tool keeps it)."""
    ends = _offsets_at(admin, partitions, LATEST)
    starts = _offsets_at(admin, partitions, EARLIEST)
    missing = [partition for partition in partitions if partition not in ends or partition not in starts]
    if missing:
        raise UnknownTopicOrPartitionError(f"{', '.join(map(str, missing))}: not there, or without a leader")
    at_time = {} if reset.timestamp is None else _offsets_at(admin, partitions, reset.timestamp)
    new = {}
    for partition in partitions:
        current = committed[partition].offset if partition in committed else None
        if reset.timestamp is not None:
            wanted = at_time.get(partition, ends[partition])
        elif reset.offset is not None:
            wanted = reset.offset
        elif current is None and reset.shift is not None:
            raise KafkaError(f"{partition}: nothing is committed, so there is nothing to shift")
        else:
            wanted = ends[partition] if current is None else current + (reset.shift or 0)
        new[partition] = min(max(wanted, starts[partition]), ends[partition])
    return new


def delete(bootstrap_servers: str | None, groups: list[str]) -> None:
    """Deletes groups."""
    with connected_admin(bootstrap_servers) as admin:
        admin.delete_consumer_groups(groups)
    print(f"Deleted {', '.join(groups)}.")


def _document(group: GroupDescription, states: list[PartitionState] | None) -> dict[str, Any]:
    document: dict[str, Any] = group._asdict()
    document["members"] = [
        {**member._asdict(), "assignment": [partition._asdict() for partition in member.assignment]}
        for member in group.members
    ]
    if states is not None:
        document["offsets"] = [state._asdict() for state in states]
    return document
