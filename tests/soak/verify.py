"""Was every acked record read, once? Pure: what the clients said at their end goes in, complaints come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Partition = tuple[str, int]
Run = Sequence[int]
"""The numbers [first, end) of records that came one after the other."""


def check_reader(acked: Mapping[Partition, int], runs: Mapping[Partition, Sequence[Run]]) -> list[str]:
    """A reader that was never told to go back has seen each number once, in order: one run from 0 to what was acked.

    More than was acked may be there where the last records' outcome was never told; here it always is.
    """
    complaints = []
    for partition, count in sorted(acked.items()):
        expected = 0
        for first, end in runs.get(partition, ()):
            if first > expected:
                complaints.append(f"{_name(partition)}: lost {first - expected} records from number {expected}")
            elif first < expected:
                complaints.append(f"{_name(partition)}: {expected - first} records came again from number {first}")
            expected = max(expected, end)
        if expected < count:
            complaints.append(f"{_name(partition)}: lost the last {count - expected} of {count} records")
        elif expected > count:
            complaints.append(f"{_name(partition)}: {expected - count} records more than the {count} that were acked")
    return complaints


def check_group(acked: Mapping[Partition, int], members: Iterable[Mapping[Partition, Sequence[Run]]]) -> list[str]:
    """Its members together have seen each number at least once. One that moves may be given out again, no more."""
    by_partition: dict[Partition, list[Run]] = {}
    for member in members:
        for partition, runs in member.items():
            by_partition.setdefault(partition, []).extend(runs)
    complaints = []
    for partition, count in sorted(acked.items()):
        expected = 0
        for first, end in sorted((run[0], run[1]) for run in by_partition.get(partition, ())):
            if first > expected:
                complaints.append(f"{_name(partition)}: the group missed {first - expected} from number {expected}")
            expected = max(expected, end)
        if expected != count:
            complaints.append(f"{_name(partition)}: the group saw {expected} records, {count} were acked")
    return complaints


def given_again(members: Iterable[Mapping[Partition, Sequence[Run]]], acked: Mapping[Partition, int]) -> int:
    """How many records the group was given more than once."""
    seen = sum(run[1] - run[0] for member in members for runs in member.values() for run in runs)
    return seen - sum(acked.values())


def check_producer(topic: str, sent: Sequence[int], acked: Sequence[int]) -> list[str]:
    """All that was sent was acked."""
    return [
        f"{topic}-{number}: {told - done} of {told} records were not acked"
        for number, (told, done) in enumerate(zip(sent, acked, strict=True))
        if told != done
    ]


def check_committed(ends: Mapping[Partition, int], committed: Mapping[Partition, int | None]) -> list[str]:
    """The group has committed what it has read: everything. Where there is nothing, it may have committed nothing."""
    return [
        f"{_name(partition)}: the group has committed {committed.get(partition)}, the log ends at {end}"
        for partition, end in sorted(ends.items())
        if (committed.get(partition) or 0) != end
    ]


def _name(partition: Partition) -> str:
    return f"{partition[0]}-{partition[1]}"
