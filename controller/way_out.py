"""What a controller's operator is told to do about a data folder that cannot be trusted."""

from __future__ import annotations

from typing import Final

WAY_OUT: Final = (
    "While a majority of the other controllers is alive, stop this one and run "
    "`python -m klamm.controller.format readmit --set-aside`, which moves its files away and lets it learn everything "
    "from the leader; otherwise restore the folder from a copy"
)
