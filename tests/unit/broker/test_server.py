"""How a broker stops: in which order, and when its log may be called clean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from klamm.broker.config import BrokerConfig
from klamm.broker.server import BrokerServer
from klamm.proto.errors import KafkaStorageError
from klamm.proto.identifiers import BrokerEpoch


class Room:
    """Stands for any room of the broker: notes what is called on it."""

    broker_epoch = BrokerEpoch(7)

    def __init__(self, name: str, calls: list[str], on_call: Callable[[str], None]) -> None:
        self._name = name
        self._calls = calls
        self._on_call = on_call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(*_: object, **arguments: object) -> None:
            told = "".join(f" {key}={value}" for key, value in sorted(arguments.items()))
            self._calls.append(f"{self._name}.{method}{told}")
            self._on_call(self._calls[-1])

        return call


def stopped(tmp_path: Path, *, fails_in: str = "") -> tuple[BrokerServer, list[str]]:
    """A broker that served and was stopped; the calls on its rooms in their order."""
    path = tmp_path / "node.properties"
    path.write_text(f"node.id=1\nlog.dirs={tmp_path}\ncontroller.quorum.bootstrap.servers=127.0.0.1:9292\n")
    calls: list[str] = []

    async def main() -> BrokerServer:
        server = BrokerServer(BrokerConfig.load(path))

        def on_call(call: str) -> None:
            if call == fails_in:
                server._fail(KafkaStorageError("the disk is gone"))

        for name in ("lifecycle", "health", "replica_manager", "grpc", "metadata", "log_manager", "controller"):
            setattr(server, f"_{name}", Room(name, calls, on_call))
        server._has_log = server._has_rooms = server._serving = True
        server.request_stop()
        await server.wait_for_stop()
        await server.stop()
        return server

    return asyncio.run(main()), calls


def test_rule_26_leaderships_are_handed_over_first_and_the_clean_marker_comes_last(tmp_path: Path) -> None:
    server, calls = stopped(tmp_path)
    assert calls[0] == "lifecycle.controlled_shutdown"
    assert calls[-2:] == ["log_manager.shutdown broker_epoch=7 clean=True", "controller.close"]
    assert server.failure is None


def test_no_metadata_comes_once_the_replicas_have_stopped(tmp_path: Path) -> None:
    """It would start fetchers that nobody stops, which write to logs that are being closed as clean."""
    _, calls = stopped(tmp_path)
    assert calls.index("metadata.stop") < calls.index("replica_manager.shutdown")


@pytest.mark.parametrize("call", ["lifecycle.controlled_shutdown", "replica_manager.shutdown", "grpc.stop"])
def test_rule_19_a_broker_that_fails_while_it_stops_was_not_stopped_cleanly(tmp_path: Path, call: str) -> None:
    server, calls = stopped(tmp_path, fails_in=call)
    assert "log_manager.shutdown broker_epoch=None clean=False" in calls
    assert isinstance(server.failure, KafkaStorageError)
