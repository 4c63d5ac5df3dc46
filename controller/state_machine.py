"""What the Raft log is applied to: the controller's state, and the metadata log that followers read.

Everything here happens in the order of the Raft log, on each controller alike. Who decided nothing (a follower) holds
the same state as who did, so any controller may take over or stream metadata at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..cluster.image import MetadataImage
from ..cluster.invariant import invariant
from .metadata_log import MetadataLog
from .state import ControllerState, apply

logger = logging.getLogger(__name__)


class MetadataStateMachine:
    """The `StateMachine` that `RaftNode` drives."""

    def __init__(self, log: MetadataLog) -> None:
        self.log = log
        self.on_change: Callable[[], None] = lambda: None  # the image is another one now
        self._state = ControllerState.empty()

    @property
    def state(self) -> ControllerState:
        """The state after the last command that was applied."""
        return self._state

    @property
    def image(self) -> MetadataImage:
        """The metadata after the last command that was applied."""
        return self._state.image

    def apply(self, command: bytes, index: int, term: int) -> bytes:
        """Carries out one committed command; the answer is a CommandResponse, errors included."""
        del index, term  # the command brings all it depends on
        applied = apply(self._state, command)
        self._state = applied.state
        if applied.records:
            self.log.append(applied.records)
        invariant(
            self.log.end_offset == self._state.image.end_offset,
            f"metadata log ends at {self.log.end_offset}, the image at {self._state.image.end_offset}",
        )
        if applied.records:
            self.on_change()
        return applied.response.SerializeToString()

    def snapshot(self) -> bytes:
        """The whole state, as bytes."""
        return self._state.snapshot()

    def restore(self, data: bytes) -> None:
        """Takes the state of a snapshot in place of its own."""
        self._state = ControllerState.restore(data)
        self.log.reset(self._state.image.end_offset)
        logger.info(
            "metadata_restored end_offset=%d topics=%d brokers=%d",
            self.image.end_offset,
            len(self.image.topics),
            len(self.image.brokers),
        )
