"""The sample configurations are ones that the nodes take."""

from __future__ import annotations

from pathlib import Path

import klamm
from klamm.broker.config import BrokerConfig
from klamm.controller.config import ControllerConfig

SAMPLES = Path(klamm.__file__).parent / "deploy" / "samples"


def test_controller_sample() -> None:
    assert ControllerConfig.load(SAMPLES / "controller.properties").node_id == 1


def test_broker_sample() -> None:
    assert BrokerConfig.load(SAMPLES / "broker.properties").node_id == 1
