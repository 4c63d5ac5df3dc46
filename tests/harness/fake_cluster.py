"""A LocalCluster whose nodes are fake_node.py processes: for what the launcher does, without what the nodes do."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from klamm.deploy.layout import NodeSpec
from klamm.deploy.local import LocalCluster

FAKE_NODE = Path(__file__).parent / "fake_node.py"


def fake_command(spec: NodeSpec, *, new_quorum: bool) -> list[str]:
    """Starts a fake node in place of a real one."""
    command = [sys.executable, "-I", "-S", str(FAKE_NODE), "--config", str(spec.config_path)]
    return [*command, "--new-quorum"] if new_quorum else command


def fake_cluster(
    brokers: int = 2,
    controllers: int = 1,
    *,
    data_folder: Path | None = None,
    broker_config: Mapping[str, str] | None = None,
    controller_config: Mapping[str, str] | None = None,
) -> LocalCluster:
    """Not started yet; start it with wait=False: fake nodes answer no call."""
    return LocalCluster(
        brokers,
        controllers,
        data_folder=data_folder,
        broker_config=broker_config,
        controller_config=controller_config,
        command=fake_command,
    )
