"""A quorum of real controller processes in a folder of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType


class ControllerProcess:
    """One controller: its configuration, its process, what it said."""

    def __init__(self, node_id: int, folder: Path, port: int, config: str) -> None:
        self.node_id = node_id
        self.folder = folder
        self.port = port
        self.data_folder = folder / f"controller-{node_id}"
        self.config_path = folder / f"controller-{node_id}.properties"
        self.config_path.write_text(config, encoding="utf-8")
        self.log_path = folder / f"controller-{node_id}.log"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> None:
        """Starts it without waiting."""
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "klamm.controller", "--config", str(self.config_path), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_ready(self, timeout_s: float = 20.0) -> str:
        """The READY line."""
        assert self.process is not None
        assert self.process.stdout is not None
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        reader.join(timeout_s)
        assert lines, f"controller {self.node_id} said nothing; its log:\n{self.log()}"
        assert lines[0].startswith(f"READY node=controller-{self.node_id} pid={self.process.pid} grpc="), (
            f"{lines[0]!r}; its log:\n{self.log()}"
        )
        return lines[0]

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal and goes on."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


class ControllerProcesses:
    """A whole quorum; kills what is left when the block ends."""

    def __init__(self, folder: Path, count: int, **config: str) -> None:
        self._reserved = [_reserve() for _ in range(count)]
        ports = [reserved.getsockname()[1] for reserved in self._reserved]
        voters = ",".join(f"{node_id}@127.0.0.1:{port}" for node_id, port in enumerate(ports))
        extra = "".join(f"{key.replace('_', '.')}={value}\n" for key, value in config.items())
        self.nodes = [
            ControllerProcess(
                node_id,
                folder,
                port,
                f"node.id={node_id}\ncontroller.quorum.voters={voters}\ncontroller.quorum.id=test\n"
                f"metadata.log.dir={folder / f'controller-{node_id}'}\n{extra}",
            )
            for node_id, port in enumerate(ports)
        ]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]

    def start(self, *arguments: str) -> None:
        """Starts all, and waits until all serve."""
        for node in self.nodes:
            node.start(*arguments)
        for node in self.nodes:
            node.wait_ready()

    def release_ports(self) -> None:
        """Anybody may have the ports from now on."""
        for reserved in self._reserved:
            reserved.close()

    def __enter__(self) -> ControllerProcesses:
        try:
            self.start("--new-quorum")
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.kill()
        self.release_ports()
        if error is not None:
            for node in self.nodes:
                error.add_note(f"--- controller {node.node_id}:\n{node.log()[-6000:]}")


def _reserve() -> socket.socket:
    """Keeps a port for a process that will listen on it: bound, not listening."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved
