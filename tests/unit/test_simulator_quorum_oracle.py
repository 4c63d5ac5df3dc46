"""The simulator's oracle of controllers' journals, votes and words: it fails where it should, and only there."""

from __future__ import annotations

import pytest
from simulator.oracles.breach import Findings
from simulator.oracles.quorum_oracle import QuorumOracle


class Log:
    """A journal: a digit an entry, its term; the first has index `first`, the last `unsynced` are not on the disk."""

    def __init__(self, terms: str, *, first: int = 1, unsynced: int = 0) -> None:
        self.terms = {first + place: int(term) for place, term in enumerate(terms)}
        self.first_index = first
        self.synced_index = first + len(terms) - 1 - unsynced

    def term_at(self, index: int) -> int | None:
        return self.terms.get(index)


class Quorum:
    """Three controllers."""

    def __init__(self) -> None:
        self.findings = Findings()
        self.oracle = QuorumOracle(self.findings.report, 3)

    @property
    def rules(self) -> list[int]:
        return [breach.rule for breach in self.findings.breaches]


@pytest.mark.parametrize(
    ("logs", "rules"),
    [
        ((Log("11"), Log("11"), Log("1")), []),
        ((Log("11"), Log("1"), Log("11", unsynced=1)), [25]),
        ((Log("11"), Log("1"), Log("12")), [25]),
        ((Log("11"), Log("1"), Log("33", first=5)), []),  # its snapshot covers the entry
        ((Log("11"),), [25]),
    ],
)
def test_rule_25_what_is_applied_is_on_the_disks_of_a_majority(logs: tuple[Log, ...], rules: list[int]) -> None:
    quorum = Quorum()
    for node_id, log in enumerate(logs, start=1):
        quorum.oracle.opened(node_id, log)
    quorum.oracle.applies(1, 2, 1)
    assert quorum.rules == rules


def test_rule_25_one_entry_is_applied_at_an_index() -> None:
    quorum = Quorum()
    for node_id in (1, 2, 3):
        quorum.oracle.opened(node_id, Log("33", first=5))
    quorum.oracle.applies(1, 2, 1)
    quorum.oracle.applies(2, 2, 1)
    assert not quorum.rules
    quorum.oracle.applies(3, 2, 2)
    assert quorum.rules == [25]


@pytest.mark.parametrize(
    ("cut", "append", "rules"),
    [
        ({3: 1, 4: 1}, {3: 2}, []),  # a conflict
        ({3: 1, 4: 1}, {2: 1, 3: 2, 4: 2}, []),
        ({3: 1, 4: 1}, {3: 1, 4: 2}, [25]),  # it begins too early
        ({3: 1, 4: 1}, {}, [25]),  # nothing conflicts
        ({3: 1}, None, []),  # not because of an append
        ({2: 1, 3: 1}, {2: 2}, [25]),  # entry 2 was applied
        ({2: 2, 3: 2}, {2: 3}, []),  # another entry 2 was
    ],
)
def test_rule_25_a_journal_is_cut_where_it_conflicts_and_nowhere_else(
    cut: dict[int, int], append: dict[int, int] | None, rules: list[int]
) -> None:
    quorum = Quorum()
    for node_id in (1, 2):
        quorum.oracle.opened(node_id, Log("11"))
    quorum.oracle.applies(1, 2, 1)
    quorum.oracle.cuts(2, cut, append)
    assert quorum.rules == rules


def test_rule_25_a_vote_is_given_once_in_a_term() -> None:
    quorum = Quorum()
    for term, vote in ((1, None), (1, 2), (1, 2), (2, None), (3, 1)):
        quorum.oracle.votes(1, term, vote)
    quorum.oracle.votes(2, 3, 2)
    assert not quorum.rules
    quorum.oracle.votes(1, 3, 2)
    quorum.oracle.votes(1, 2, None)
    assert quorum.rules == [25, 25]


def test_rule_9_an_answer_is_given_where_its_command_was_applied() -> None:
    quorum = Quorum()
    quorum.oracle.applied(1, b"one")
    quorum.oracle.answers(1, b"one", "create_topics")
    assert not quorum.rules
    quorum.oracle.answers(2, b"one", "create_topics")
    quorum.oracle.answers(1, b"other", "create_topics")
    assert quorum.rules == [9, 9]


@pytest.mark.parametrize(("answered_in", "changed", "rules"), [(3, True, []), (2, False, []), (2, True, [11])])
def test_rule_11_an_answer_of_an_earlier_term_counts_for_nothing(
    answered_in: int, changed: bool, rules: list[int]
) -> None:
    quorum = Quorum()
    quorum.oracle.took_answer(1, 3, answered_in, changed=changed)
    assert quorum.rules == rules
