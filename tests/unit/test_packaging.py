"""The list of packages in pyproject.toml is what is in the tree: a folder missing there is missing from the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("proto", "cluster", "controller", "broker", "client", "deploy")


def test_every_package_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {"klamm"}
    for folder in SOURCE:
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(("klamm", *init.parent.relative_to(ROOT).parts)))
    assert set(settings["tool"]["setuptools"]["packages"]) == found


def test_the_root_holds_no_python_but_its_init() -> None:
    assert [path.name for path in ROOT.glob("*.py")] == ["__init__.py"]
