"""Planted bugs: each still has its ground in the code, changes it, and leaves it as it was."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from klamm.controller import brokers, state
from simulator.faults import FAULTS
from simulator.mutants import MUTANTS, Mutant, table
from simulator.mutants.hunt import Caught
from simulator.mutants.mutant import rewrite
from simulator.schedule import PROFILES, SCRIPTS


def _code_of(found: Any) -> Any:
    """What runs: the bytes alone are not enough, for a constant may be all that has changed."""
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    if not isinstance(found, FunctionType):
        return found
    return found.__code__.co_code, found.__code__.co_consts, found.__code__.co_names


def test_there_are_enough_of_them_and_no_two_of_one_name() -> None:
    assert len(MUTANTS) >= 20
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_the_running_code_while_it_is_planted_and_leaves_it_as_it_was(mutant: Mutant) -> None:
    assert mutant.changes
    assert mutant.rules
    assert all(0 <= rule <= 28 for rule in mutant.rules)
    assert set(mutant.prefer) <= set(PROFILES)
    places = [(change.owner, change.name) for change in mutant.changes]
    assert len(set(places)) == len(places)
    before = [inspect.getattr_static(owner, name) for owner, name in places]
    with mutant.planted():
        planted = [inspect.getattr_static(owner, name) for owner, name in places]
        assert all(_code_of(one) != _code_of(other) for one, other in zip(before, planted, strict=True))
    after = [inspect.getattr_static(owner, name) for owner, name in places]
    assert all(one is other for one, other in zip(before, after, strict=True))


class _Ground:
    def answer(self) -> int:
        """It has a docstring of
        two lines."""
        return self.__half() * 2

    def __half(self) -> int:
        return 21

    @property
    def twice(self) -> int:
        return 2 * self.answer()

    @staticmethod
    def word() -> str:
        return "yes yes"


def test_a_rewrite_says_so_when_its_words_are_not_there_once() -> None:
    with pytest.raises(ValueError, match="is there 0 times"):
        rewrite(_Ground, "answer", ("* 3", "* 4")).made()
    with pytest.raises(ValueError, match="is there 2 times"):
        rewrite(_Ground, "word", ("yes", "no")).made()


def test_a_rewrite_says_so_when_another_module_calls_the_function_by_a_name_of_its_own() -> None:
    swap = ("return refused(", "return refused (")
    with pytest.raises(ValueError, match="state has imported decide_controlled_shutdown"):
        rewrite(brokers, "decide_controlled_shutdown", swap).made()
    assert rewrite(state, "decide_controlled_shutdown", swap).made() is not None


def test_the_page_keeps_the_rows_of_mutants_that_were_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PAGE", tmp_path / "mutants.md")
    one, other, third = (mutant.name for mutant in MUTANTS[:3])
    table.write(
        [Caught(one, "rule 3", "text", 7, 8, 9.4, 0, ("kills", "network")), Caught(other, "", "", 9, 10, 3.0, 0, ())]
    )
    table.write([Caught(third, "liveness", "text", 1, 2, 1.0, 0, ())])
    seen = table.read()
    assert len(seen) == len(MUTANTS)
    assert seen[one] == ("rule 3", "7", "8 (kills, network)", "9")
    assert seen[other] == ("**not found**", "", "more than 10", "3")
    assert seen[third] == ("liveness", "1", "2", "1")
    assert seen[MUTANTS[3].name] == ("not run", "", "", "")
    assert table.seeds_needed() == {one: 8, third: 2}


def test_every_kind_of_fault_that_a_plan_may_have_is_there() -> None:
    kinds = {kind for profile in PROFILES.values() for kind in profile}
    steps = {step for script in SCRIPTS.values() for _, step in script}
    assert kinds - set(SCRIPTS) <= set(FAULTS)
    assert steps <= set(FAULTS)
    assert set(SCRIPTS) <= kinds
    assert set(FAULTS) == kinds - set(SCRIPTS) | steps


def test_methods_properties_and_static_methods_are_rewritten() -> None:
    changes = (
        rewrite(_Ground, "answer", ("* 2", "* 3")),
        rewrite(_Ground, "twice", ("2 * ", "1 * ")),
        rewrite(_Ground, "word", ("yes yes", "no")),
    )
    with Mutant("wrong", "does wrong", "what is right", (1,), changes).planted():
        assert (_Ground().answer(), _Ground().twice, _Ground.word()) == (63, 63, "no")
    assert (_Ground().answer(), _Ground().twice, _Ground.word()) == (42, 84, "yes yes")
