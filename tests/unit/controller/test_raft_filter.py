"""What of an AppendEntries reaches the library (Raft, figure 2, "AppendEntries RPC, receiver implementation")."""

from __future__ import annotations

from random import Random

import pytest
from klamm.cluster.invariant import InvariantError
from klamm.controller.raft_codec import MalformedRaftMessageError, decode_append, decode_part
from klamm.controller.raft_contract import Entry
from klamm.controller.raft_filter import Answer, Append, Deliver, covers_snapshot, filter_append
from klamm.proto.raft_pb2 import AppendEntries, InstallSnapshot, RaftEntry


class Log:
    """Terms of entries from `first_index` on."""

    def __init__(self, terms: str, first_index: int = 1) -> None:
        self.terms = [int(term) for term in terms]
        self.first_index = first_index

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.terms) - 1

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        return self.terms[position] if 0 <= position < len(self.terms) else None


def append(previous: int | None, previous_term: int, terms: str = "", commit: int = 0, term: int = 9) -> Append:
    entries = [(b"\x00", (previous or 0) + 1 + position, int(char)) for position, char in enumerate(terms)]
    return Append(term, commit, previous, previous_term, tuple(entries))


def new_terms(verdict: Deliver | Answer) -> tuple[int | None, str]:
    """Where the library is to go on, and with entries of which terms."""
    assert isinstance(verdict, Deliver)
    return verdict.append.previous_index, "".join(str(entry[2]) for entry in verdict.append.entries)


@pytest.mark.parametrize(
    ("log", "commit_index", "message", "expected"),
    [
        ("0111", 1, append(4, 1, "11"), (4, "11")),
        ("0111", 1, append(2, 1, "1111"), (4, "11")),  # two are held
        ("0111", 1, append(2, 1, "22"), (2, "22")),  # conflict at once
        ("0111", 1, append(1, 0, "1122"), (3, "22")),  # conflict after two that match
        ("0111", 3, append(1, 0, "1122"), (3, "22")),
        ("0111", 3, append(2, 1, "1222"), (3, "222")),
    ],
)
def test_what_is_new_is_delivered(log: str, commit_index: int, message: Append, expected: tuple[int, str]) -> None:
    assert new_terms(filter_append(message, Log(log), commit_index)) == expected


@pytest.mark.parametrize(
    ("log", "commit_index", "message", "expected"),
    [
        ("0111", 1, append(4, 1, commit=9), Answer(5, success=True, reset=False, commit_index=4)),
        ("0111", 1, append(2, 1, commit=9), Answer(3, success=True, reset=False, commit_index=2)),  # 3, 4 may be stale
        ("0111", 1, append(1, 0, "11", commit=9), Answer(4, success=True, reset=False, commit_index=3)),
        ("0111", 1, append(1, 0, "11", commit=2), Answer(4, success=True, reset=False, commit_index=2)),
        ("0111", 3, append(1, 0, "1", commit=9), Answer(3, success=True, reset=False, commit_index=3)),
        ("0111", 1, append(6, 1, "1"), Answer(5, success=False, reset=True, commit_index=1)),  # a gap
        ("0111", 1, append(4, 2, "2"), Answer(2, success=False, reset=True, commit_index=1)),  # term 1 begins at 2
        ("0111", 3, append(4, 2, "2"), Answer(4, success=False, reset=True, commit_index=3)),
        ("0111", 1, append(None, 0), Answer(5, success=False, reset=True, commit_index=1)),
    ],
)
def test_what_is_held_or_does_not_fit_is_answered(
    log: str, commit_index: int, message: Append, expected: Answer
) -> None:
    assert filter_append(message, Log(log), commit_index) == expected


def test_entries_that_a_snapshot_covers_are_skipped() -> None:
    log = Log("1111", first_index=10)
    assert new_terms(filter_append(append(3, 1, "1" * 11), log, 12)) == (13, "1")
    assert filter_append(append(3, 1, "11"), log, 12) == Answer(6, success=True, reset=False, commit_index=12)


@pytest.mark.parametrize("message", [append(1, 0, "22"), append(2, 2, "2"), append(1, 0, "2222"), append(3, 2)])
def test_a_conflict_with_what_is_committed_is_a_bug(message: Append) -> None:
    with pytest.raises(InvariantError):
        filter_append(message, Log("0111"), 3)


def test_a_snapshot_is_covered_by_what_is_committed_or_matches() -> None:
    log = Log("0111")
    assert covers_snapshot(2, 7, log, 3)
    assert covers_snapshot(4, 1, log, 3)
    assert not covers_snapshot(4, 2, log, 3)
    assert not covers_snapshot(5, 1, log, 3)


@pytest.mark.parametrize("seed", range(200))
def test_against_the_paper(seed: int) -> None:
    """Random logs: what results is what the five steps of the paper give."""
    random = Random(seed)
    common = sorted(random.choices(range(1, 4), k=random.randrange(6)))
    mine = [0, *common, *sorted(random.choices(range(3, 6), k=random.randrange(5)))]
    leaders = [0, *common, *sorted(random.choices(range(6, 9), k=random.randrange(6)))]
    commit_index = random.randrange(1, len(common) + 2)
    previous = random.randrange(1, len(leaders) + 1)
    count = random.randrange(len(leaders) - previous + 1)
    entries: tuple[Entry, ...] = tuple((b"", i + 1, leaders[i]) for i in range(previous, previous + count))
    message = Append(9, random.randrange(1, len(leaders) + 1), previous, leaders[previous - 1], entries)

    log = Log("".join(map(str, mine)))
    verdict = filter_append(message, log, commit_index)

    expected = list(mine)
    accepted = previous <= len(mine) and mine[previous - 1] == leaders[previous - 1]
    if accepted:
        for _, index, term in entries:
            if index <= len(expected) and expected[index - 1] != term:
                del expected[index - 1 :]
            if index > len(expected):
                expected.append(term)
    result = list(mine)
    if isinstance(verdict, Deliver):
        assert verdict.append.previous_index is not None
        result = mine[: verdict.append.previous_index] + [term for _, _, term in verdict.append.entries]
        assert verdict.append.end_index == message.end_index
        assert verdict.append.commit_index <= message.end_index
    else:
        assert verdict.success is accepted
        assert verdict.commit_index <= max(commit_index, min(message.commit_index, message.end_index))
    assert result == expected


@pytest.mark.parametrize(
    "message",
    [
        AppendEntries(term=1, transmission=True),
        AppendEntries(term=-1),
        AppendEntries(term=1, has_previous=True, previous_index=-5),
        AppendEntries(term=1, entries=[RaftEntry(command=b"\x00", index=1, term=1)]),
        AppendEntries(term=1, has_previous=True, entries=[RaftEntry(command=b"\x00", index=2, term=1)]),
        AppendEntries(term=1, has_previous=True, entries=[RaftEntry(command=b"\x00", index=1, term=2)]),
        AppendEntries(
            term=5, has_previous=True, previous_term=3, entries=[RaftEntry(command=b"\x00", index=1, term=2)]
        ),
        AppendEntries(term=1, has_previous=True, entries=[RaftEntry(command=b"\x02", index=1, term=1)]),
    ],
)
def test_messages_that_no_leader_sends_are_refused(message: AppendEntries) -> None:
    with pytest.raises(MalformedRaftMessageError):
        decode_append(message)


@pytest.mark.parametrize(
    "message",
    [
        InstallSnapshot(last_index=0, total_bytes=1),
        InstallSnapshot(last_index=5, total_bytes=1, offset=-1),
        InstallSnapshot(last_index=5, total_bytes=1, data=b"ab"),
    ],
)
def test_snapshot_parts_that_cannot_be_are_refused(message: InstallSnapshot) -> None:
    with pytest.raises(MalformedRaftMessageError):
        decode_part(message)
