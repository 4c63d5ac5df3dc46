"""Groups: rules 21 and 22, from what coordinators were asked and what they have in memory once they serve.

21  an acked offset commit is what the next coordinator has, and what whoever is asked tells, unless a later one came
    after it
22  in one generation no partition has two owners
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from klamm.proto.identifiers import TopicPartition
from simulator.ledger import Owned, Place
from simulator.oracles.breach import Report


@dataclass(slots=True)
class CommitTry:
    """One offset that a coordinator was asked to commit."""

    offset: int
    began_s: float
    acked_s: float | None = None  # NONE was answered


class GroupOracle:
    """Told of commits as coordinators take them, and of what a coordinator shows."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._tries: dict[tuple[str, TopicPartition], list[CommitTry]] = {}
        self._shards: dict[str, int] = {}  # the partition of __consumer_offsets, by group
        self._owners: dict[tuple[str, int, Place], Owned] = {}
        self._handed_in: WeakKeyDictionary[object, set[int]] = WeakKeyDictionary()

    # --- rule 21 ---------------------------------------------------------------------------------------------

    def began(self, group: str, shard: int, partition: TopicPartition, offset: int, now_s: float) -> CommitTry:
        """A coordinator is asked to commit; fill in `acked_s` when it says that it did."""
        self._shards[group] = shard
        found = CommitTry(offset, now_s)
        self._tries.setdefault((group, partition), []).append(found)
        return found

    def deleted(self, topic: str) -> None:
        """The topic is gone, and its offsets with it."""
        for group, partition in list(self._tries):
            if partition.topic == topic:
                del self._tries[group, partition]

    def shows(
        self,
        where: str,
        shard: int,
        committed: Mapping[str, Mapping[TopicPartition, int]],
        *,
        since_s: float,
        may_expire: bool,
    ) -> None:
        """A coordinator serves a shard and has these offsets in it, by group. What was acked before `since_s` was
        given up; `may_expire`: somebody's clock says that all of it is very old."""
        for (group, partition), tries in self._tries.items():
            if self._shards[group] != shard:
                continue
            shown = committed.get(group, {}).get(partition)
            last_began_s = max(
                (t.began_s for t in tries if t.acked_s is not None and t.acked_s >= since_s), default=None
            )
            if last_began_s is None or (shown is None and may_expire):
                continue
            # A commit whose ack was there before another acked one began is no longer what counts.
            possible = [t for t in tries if t.acked_s is None or t.acked_s >= last_began_s]
            if shown is None or all(t.offset != shown for t in possible):
                acked = max((t for t in tries if t.acked_s is not None), key=lambda t: t.began_s)
                self._report(
                    21,
                    f"{where} has offset {shown} for group {group} and {partition}; {acked.offset} was acked at "
                    f"{acked.acked_s:.3f} s",
                )

    def told(
        self,
        where: str,
        group: str,
        offsets: Mapping[TopicPartition, int | None],
        *,
        asked_s: float,
        since_s: float,
        may_expire: bool,
    ) -> None:
        """Somebody was told these, having asked at `asked_s`; the others as in `shows`."""
        for partition, offset in offsets.items():
            tries = self._tries.get((group, partition), ())
            known = [t for t in tries if t.acked_s is not None and since_s <= t.acked_s < asked_s]
            if not known or (offset is None and may_expire):
                continue
            last = max(known, key=lambda t: t.began_s)
            if not any(t.offset == offset for t in tries if t.acked_s is None or t.acked_s >= last.began_s):
                self._report(
                    21,
                    f"{where} told offset {offset} for group {group} and {partition}, asked at {asked_s:.3f} s; "
                    f"{last.offset} was acked at {last.acked_s:.3f} s",
                )

    # --- rule 22 ---------------------------------------------------------------------------------------------

    def owned(self, entries: Iterable[Owned], promised_since_s: Callable[[str], float]) -> None:
        """What members were told is theirs; those without a generation say nothing.

        What a group did before `promised_since_s` is lost with its records: it counts its generations anew.
        """
        for entry in entries:
            if entry.generation < 0:
                continue
            for place in entry.places:
                key = entry.group, entry.generation, place
                other = self._owners.setdefault(key, entry)
                if other.at_s < promised_since_s(entry.group):
                    self._owners[key] = entry
                elif other.consumer != entry.consumer:
                    self._report(
                        22,
                        f"{place.topic}-{place.partition} belongs to {other.consumer} and to {entry.consumer} in "
                        f"generation {entry.generation} of group {entry.group}",
                    )

    def took(self, what: str, group: str, asked: int, generation: int, *, member: str, is_member: bool) -> None:
        """A coordinator carried out a member's request of generation `asked`, its own being `generation`."""
        if asked != generation or not is_member:
            self._report(
                21 if what == "commit" else 22,
                f"a {what} of {member} in generation {asked} of group {group} was accepted, where generation "
                f"{generation} {'runs' if is_member else 'has no such member'}",
            )

    def handed_in(self, coordinator: object, group: str, generation: int) -> None:
        """A coordinator's group is about to write down an assignment."""
        known = self._handed_in.setdefault(coordinator, set())
        if generation in known:
            self._report(22, f"generation {generation} of group {group} gets a second assignment")
        known.add(generation)

    def assigned(self, group: str, generation: int, members: Mapping[str, Iterable[TopicPartition]]) -> None:
        """What a coordinator has given to its members, what they have still to give back included."""
        owners: dict[TopicPartition, str] = {}
        for member, partitions in members.items():
            for partition in partitions:
                other = owners.setdefault(partition, member)
                if other != member:
                    self._report(
                        22,
                        f"{partition} belongs to the members {other} and {member} in generation {generation} of group "
                        f"{group}, as its coordinator has it",
                    )
