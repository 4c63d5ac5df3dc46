"""When a cluster that was started is ready: its quorum has a leader and every broker knows every broker as unfenced."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .errors import WaitTimeoutError
from .layout import ClusterLayout, NodeSpec

if TYPE_CHECKING:
    from .cluster_observer import ClusterObserver

POLL_SECONDS: Final = 0.01


def await_cluster(layout: ClusterLayout, observer: ClusterObserver, *, deadline: float) -> None:
    """Waits until the quorum has a leader and each broker sees all brokers unfenced.

    :raises WaitTimeoutError: it is not so by the deadline (monotonic clock).
    """
    first = layout.controllers[0]
    _wait(lambda: _has_leader(observer), deadline, f"a leader of the controllers; see {first.log_path}")
    wanted = {spec.node_id for spec in layout.brokers}
    for spec in layout.brokers:
        # One that knows all unfenced lets clients in at any bootstrap server, and places replicas on all.
        _wait(
            lambda spec=spec: wanted <= _unfenced(spec, observer),  # type: ignore[misc]
            deadline,
            f"all brokers unfenced as {spec.name} sees it; see {spec.log_path}",
        )


def await_unfenced(spec: NodeSpec, observer: ClusterObserver, *, deadline: float) -> None:
    """Waits until the broker sees itself unfenced.

    :raises WaitTimeoutError: it does not by the deadline (monotonic clock).
    """
    _wait(lambda: spec.node_id in _unfenced(spec, observer), deadline, f"{spec.name} unfenced; see {spec.log_path}")


def _has_leader(observer: ClusterObserver) -> bool:
    quorum = observer.quorum()
    return quorum is not None and quorum.active_controller_id >= 0


def _unfenced(spec: NodeSpec, observer: ClusterObserver) -> set[int]:
    answer = observer.ask_broker(spec)
    return {broker.broker_id for broker in answer.brokers if not broker.fenced} if answer is not None else set()


def _wait(condition: Callable[[], bool], deadline: float, what: str) -> None:
    while not condition():
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"waited in vain for {what}")
        time.sleep(POLL_SECONDS)
