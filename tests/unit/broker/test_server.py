"""How a broker stops: in which order, and when its log may be called clean."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from klamm.broker.config import BrokerConfig
from klamm.broker.log.log_manager import LogManager
from klamm.broker.server import BrokerServer
from klamm.broker.system_clock import SystemClock
from klamm.proto.errors import KafkaError, KafkaStorageError
from klamm.proto.identifiers import BrokerEpoch


class Room:
    """Stands for any room of the broker: notes what is called on it."""

    broker_epoch = BrokerEpoch(7)

    def __init__(self, name: str, calls: list[str], on_call: Callable[[str], Awaitable[None]]) -> None:
        self._name = name
        self._calls = calls
        self._on_call = on_call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(*_: object, **arguments: object) -> None:
            told = "".join(f" {key}={value}" for key, value in sorted(arguments.items()))
            self._calls.append(f"{self._name}.{method}{told}")
            await self._on_call(self._calls[-1])

        return call


def stopped(
    tmp_path: Path,
    *,
    fails_in: str = "",
    hangs_in: str = "",
    until: str = "",
    serving: bool = True,
) -> tuple[BrokerServer, list[str]]:
    """A broker that served and was stopped; the calls on its rooms in their order.

    `hangs_in`: a call that ends when the broker has logged a line with `until` in it.
    """
    path = tmp_path / "node.properties"
    path.write_text(f"node.id=1\nlog.dirs={tmp_path}\ncontroller.quorum.bootstrap.servers=127.0.0.1:9292\n")
    calls: list[str] = []

    async def main() -> BrokerServer:
        server = BrokerServer(BrokerConfig.load(path))
        logged = asyncio.Event()
        handler = logging.Handler()
        handler.emit = lambda record: logged.set() if until in record.getMessage() else None  # type: ignore[method-assign]
        logging.getLogger("klamm.broker.server").addHandler(handler)

        async def on_call(call: str) -> None:
            if call == fails_in:
                server._fail(KafkaStorageError("the disk is gone"))
            if call == hangs_in:
                await asyncio.wait_for(logged.wait(), 10)

        names = "lifecycle health groups replica_manager kafka service grpc metadata log_manager controller"
        for name in names.split():
            setattr(server, f"_{name}", Room(name, calls, on_call))
        server._has_log = server._has_rooms = server._has_registered = True
        server._serving = serving
        server.request_stop()
        try:
            await server.wait_for_stop()
            await server.stop()
        finally:
            logging.getLogger("klamm.broker.server").removeHandler(handler)
        return server

    return asyncio.run(main()), calls


def test_rule_26_leaderships_are_handed_over_first_and_the_clean_marker_comes_last(tmp_path: Path) -> None:
    server, calls = stopped(tmp_path)
    assert calls[0] == "lifecycle.controlled_shutdown"
    assert calls[-2:] == ["log_manager.shutdown broker_epoch=7 clean=True", "controller.close"]
    assert server.failure is None


def test_rule_26_the_kafka_listener_closes_when_who_waits_has_been_answered(tmp_path: Path) -> None:
    _, calls = stopped(tmp_path)
    stop = calls.index("kafka.stop")
    assert calls.index("lifecycle.controlled_shutdown") < calls.index("groups.shutdown") < stop
    assert (
        calls.index("replica_manager.shutdown") < stop < calls.index("log_manager.shutdown broker_epoch=7 clean=True")
    )


def test_rule_26_streams_end_when_who_waits_has_been_answered(tmp_path: Path) -> None:
    """Before the server stops: it gives streams that are open all the time they are given."""
    _, calls = stopped(tmp_path)
    assert calls.index("replica_manager.shutdown") < calls.index("service.shutdown") < calls.index("grpc.stop")


def test_no_metadata_comes_once_the_replicas_have_stopped(tmp_path: Path) -> None:
    """It would start fetchers that nobody stops, which write to logs that are being closed as clean."""
    _, calls = stopped(tmp_path)
    assert calls.index("metadata.stop") < calls.index("replica_manager.shutdown")


def test_members_are_told_to_go_elsewhere_before_the_replicas_stop(tmp_path: Path) -> None:
    _, calls = stopped(tmp_path)
    order = ["lifecycle.controlled_shutdown", "groups.shutdown", "replica_manager.shutdown"]
    assert [call for call in calls if call in order] == order


def test_a_stop_that_hangs_says_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for the broker kills it at last; its log is all that there is then."""
    monkeypatch.setattr("klamm.broker.server.SLOW_STEP_SECONDS", 0.001)
    told = "broker_stop_waits step=replicas waited_s=0.001"
    stopped(tmp_path, hangs_in="replica_manager.shutdown", until=told)
    assert told in caplog.messages


@pytest.mark.parametrize("call", ["lifecycle.controlled_shutdown", "replica_manager.shutdown", "grpc.stop"])
def test_rule_19_a_broker_that_fails_while_it_stops_was_not_stopped_cleanly(tmp_path: Path, call: str) -> None:
    server, calls = stopped(tmp_path, fails_in=call)
    assert "log_manager.shutdown broker_epoch=None clean=False" in calls
    assert isinstance(server.failure, KafkaStorageError)


@pytest.mark.parametrize("port_in_use", [True, False])
def test_a_start_that_ends_before_the_registration_keeps_the_last_stop_clean(tmp_path: Path, port_in_use: bool) -> None:
    """A taken port, controllers that are not there yet: the log is as it was. An unclean next start would recover all
    of it, and would cost the broker its place among the eligible leaders."""
    path = tmp_path / "node.properties"
    path.write_text(
        f"node.id=1\nlog.dirs={tmp_path / 'log'}\ncontroller.quorum.bootstrap.servers=127.0.0.1:1\n"
        "listeners=GRPC://127.0.0.1:0\n"
    )
    config = BrokerConfig.load(path)

    def opened() -> LogManager:
        return LogManager.open(config.log_dir, node_id=config.node_id, clock=SystemClock())

    async def start_and_stop() -> None:
        await opened().shutdown(clean=True, broker_epoch=BrokerEpoch(42))
        server = BrokerServer(config)
        if port_in_use:
            with pytest.raises(KafkaError, match="port is in use"):
                await server.start()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await server.start()
        await server.stop()
        manager = opened()
        assert manager.previous_broker_epoch == 42
        await manager.shutdown(clean=False)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        if port_in_use:
            path.write_text(path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
            config = BrokerConfig.load(path)
        asyncio.run(start_and_stop())


def test_rule_19_a_start_that_ends_after_the_registration_does_not(tmp_path: Path) -> None:
    _, calls = stopped(tmp_path, serving=False)
    assert "lifecycle.controlled_shutdown" not in calls
    assert "log_manager.shutdown broker_epoch=None clean=False" in calls
