"""Imports kio's modules without what kio would do for tests.

Where the package hypothesis is installed, kio imports it and registers strategies for its types: up to five seconds of
work (and tens of megabytes) at the first request, in a broker that could not send a heartbeat meanwhile. Many of
Klamm's users do have hypothesis, so it is hidden from that one import, unless the process has imported it already.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Final

_HOOKED: Final = "kio.static.primitive"
_HIDDEN: Final = "hypothesis"


def import_kio(module: str) -> ModuleType:
    """The module of kio with this full name."""
    if _HOOKED not in sys.modules and _HIDDEN not in sys.modules:
        sys.modules[_HIDDEN] = None  # type: ignore[assignment]  # how Python spells "cannot be imported"
        try:
            importlib.import_module(_HOOKED)
        finally:
            del sys.modules[_HIDDEN]
    return importlib.import_module(module)
