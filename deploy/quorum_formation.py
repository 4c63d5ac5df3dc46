"""Whether the controllers of a cluster are to form a new quorum, remembered in the cluster's folder.

A controller takes an empty data folder for a wiped one and does not vote, unless it is told that the quorum is new. The
launcher tells it until the quorum has formed once, and never again: a controller that lost its data is re-admitted by
`klamm controller readmit N` alone.

    quorum-id       the quorum's name, drawn when the cluster is made; messages of another quorum are refused
    quorum-formed   there once all controllers have served
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

_ID_FILE: Final = "quorum-id"
_FORMED_FILE: Final = "quorum-formed"


def load_or_draw_quorum_id(folder: Path) -> str:
    """The quorum's name; one is drawn and kept where there is none."""
    path = folder / _ID_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex, encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def is_formed(folder: Path) -> bool:
    """True once `mark_formed` was called: controllers without data are then wiped ones, not new ones."""
    return (folder / _FORMED_FILE).exists()


def mark_formed(folder: Path) -> None:
    """All controllers have served."""
    (folder / _FORMED_FILE).touch()
