"""A broker that is told to stop leaves in good order: rule 26.

When its logs are closed, and its listeners were before that, it is in no ISR that has other members, as the
controllers have committed it; unless it could not reach them for as long as it may wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from klamm.broker.lifecycle import BrokerLifecycle
from klamm.broker.log.log_manager import LogManager
from klamm.cluster.image import MetadataImage
from klamm.proto.identifiers import BrokerId
from simulator.oracles.breach import Report
from simulator.oracles.hooks import Hooks
from simulator.oracles.sight import current_node_id


class DepartureOracle:
    """It hears by itself of brokers that stop."""

    def __init__(self, report: Report, image: Callable[[], MetadataImage]) -> None:
        self._report = report
        self._image = image
        self._gave_up: set[int] = set()

    def listen(self, hooks: Hooks) -> None:
        """To hand-overs and to logs that are closed."""
        hooks.around(BrokerLifecycle, "controlled_shutdown", self._hand_over)
        hooks.around(LogManager, "shutdown", self._shut_down)

    async def _hand_over(self, hand_over: Callable[..., Any], lifecycle: BrokerLifecycle, timeout_ms: int) -> bool:
        broker_id = current_node_id()
        self._gave_up.discard(broker_id)
        done = bool(await hand_over(lifecycle, timeout_ms))
        if not done:
            self._gave_up.add(broker_id)
        return done

    async def _shut_down(self, shut_down: Callable[..., Any], manager: LogManager, **named: Any) -> bool:
        broker_id = current_node_id()
        if named.get("clean") and named.get("broker_epoch") is not None and broker_id not in self._gave_up:
            self._check(broker_id, int(named["broker_epoch"]))
        self._gave_up.discard(broker_id)
        return bool(await shut_down(manager, **named))

    def _check(self, broker_id: int, broker_epoch: int) -> None:
        image = self._image()
        registered = image.brokers.get(BrokerId(broker_id))
        if registered is None or registered.broker_epoch != broker_epoch:
            return
        for topic, partition in image.partitions():
            if broker_id in partition.isr and len(partition.isr) > 1:
                self._report(
                    26,
                    f"broker {broker_id} stops in good order and is in the ISR {list(partition.isr)} of "
                    f"{topic.name}-{partition.partition}, which broker {partition.leader} leads",
                )
                return
