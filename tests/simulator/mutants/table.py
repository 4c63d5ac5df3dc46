"""The table of docs/mutants.md: each planted bug, what found it, and after how many seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from simulator.mutants import MUTANTS
from simulator.mutants.hunt import Caught
from simulator.mutants.mutant import Mutant

PAGE: Final = Path(__file__).parents[3] / "docs" / "mutants.md"
_ROW: Final = re.compile(r"^\| `(\w+)` \|")
_SEEN_COLUMNS: Final = 4
_NOT_FOUND: Final = ("**not found**", "not run")
_HEAD: Final = """# Planted bugs

Written by `make mutants`; each row is of its mutant's last run. A mutant is a known way to get this protocol wrong, put
into the running code while the simulator (`tests/simulator/`) runs seed after seed. It counts as found by a run in
which a rule of DESIGN.md section 6 is seen broken, or all is not well in the end, while the same seed without the
mutant passes. Rule 0 stands for what no rule foresees: a process that stopped by itself, an invariant of its own that
it found broken, a cluster that did not heal. What a seed stands for changes with the code and with the plans of runs.
The changes themselves are in `tests/simulator/mutants/`.

| mutant | what it does | it breaks | should be found by | was found by | seed | seeds needed | CPU s |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def line(caught: Caught) -> str:
    """For the terminal."""
    rule = caught.rule or "NOT FOUND"
    twins = f", {caught.bad_twins} seeds fail without it" if caught.bad_twins else ""
    seen = f"seed {caught.seed:5} after {caught.seeds:5} {caught.cpu_s:7.1f} s{twins}  {caught.text[:110]}"
    return f"{caught.mutant:36} {rule:10} {seen}"


def write(found: Iterable[Caught]) -> None:
    """Replaces the rows of these mutants; those of others stay as they were."""
    seen = read()
    seen |= {each.mutant: _seen(each) for each in found}
    rows = [_row(mutant, seen.get(mutant.name, (_NOT_FOUND[1], "", "", ""))) for mutant in MUTANTS]
    PAGE.write_text(_HEAD + "".join(rows), encoding="utf-8")


def read() -> dict[str, tuple[str, ...]]:
    """What the page says was seen, by mutant."""
    if not PAGE.exists():
        return {}
    cells = [
        [cell.strip() for cell in text.strip().removeprefix("|").removesuffix("|").split("|")]
        for text in PAGE.read_text(encoding="utf-8").splitlines()
        if _ROW.match(text)
    ]
    return {each[0].strip("`"): tuple(each[-_SEEN_COLUMNS:]) for each in cells}


def seeds_needed() -> dict[str, int]:
    """By mutant, of those that were found."""
    return {name: int(seen[2].split()[0]) for name, seen in read().items() if seen[0] not in _NOT_FOUND}


def _seen(caught: Caught) -> tuple[str, ...]:
    if not caught.rule:
        return _NOT_FOUND[0], "", f"more than {caught.seeds}", f"{caught.cpu_s:.0f}"
    profiles = f" ({', '.join(caught.profiles)})" if caught.profiles else ""
    return caught.rule, str(caught.seed), f"{caught.seeds}{profiles}", f"{caught.cpu_s:.0f}"


def _row(mutant: Mutant, seen: tuple[str, ...]) -> str:
    rules = ", ".join(str(rule) for rule in mutant.rules)
    return "| " + " | ".join((f"`{mutant.name}`", mutant.does, mutant.breaks, rules, *seen)) + " |\n"
