"""The controller process: `python -m klamm.controller --config F`.

Prints one line when it serves: `READY node=controller-<id> pid=<pid> grpc=<host>:<port>`. Logs go to stderr. SIGTERM
and SIGINT stop it in order; SIGUSR1 writes to the log how many tasks and objects there are. Exit code 0: stopped in
order; 1: it failed; 2: the configuration, the port or the data folder needs a human, and one line on stderr says what
to do.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..cluster.log_format import LineFormatter
from ..cluster.task_census import census
from ..proto.errors import KafkaConfigurationError
from .config import ControllerConfig
from .raft_contract import DataFolderError

if TYPE_CHECKING:
    from .server import ControllerServer

logger = logging.getLogger(__name__)

STOPPED: Final = 0
FAILED: Final = 1
BAD_CONFIGURATION: Final = 2


def main() -> int:
    """Runs a controller until it is told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m klamm.controller", description="Runs one Klamm controller.")
    parser.add_argument("--config", required=True, type=Path, metavar="F", help="the configuration file (key=value)")
    parser.add_argument(
        "--new-quorum",
        action="store_true",
        help="the first start of a brand-new quorum: formats the data folder if it is empty (see controller.format)",
    )
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    arguments = parser.parse_args()
    try:
        config = ControllerConfig.load(arguments.config)
    except KafkaConfigurationError as error:
        return _complain(f"controller: {arguments.config}: {error}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(f"controller-{config.node_id}"))
    logging.basicConfig(level=arguments.log_level, handlers=[handler])
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(config, new_quorum=arguments.new_quorum))


async def _run(config: ControllerConfig, *, new_quorum: bool) -> int:
    # Imported once the configuration is known to be good: a mistake in it is told at once. gRPC reads its own verbosity
    # from the environment when it is imported; what it says of broken connections is said better here.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from .format import format_if_empty
    from .server import ControllerServer, PortError
    from .system_clock import SystemClock

    stop = asyncio.Event()
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _log_census)
    server: ControllerServer | None = None
    try:
        if new_quorum:
            format_if_empty(config)
        server = ControllerServer(config, SystemClock(), fail)
        await server.start()
        print(f"READY node=controller-{config.node_id} pid={os.getpid()} grpc={server.address}", flush=True)
        await stop.wait()
    except (PortError, DataFolderError, OSError) as error:
        return _complain(f"controller {config.node_id}: {error}")
    except Exception as error:  # the outermost frame of the process
        logger.critical("controller_failed node=%d", config.node_id, exc_info=error)
        failures.append(error)
    finally:
        if server is not None:
            await server.stop()
    return FAILED if failures else STOPPED


def _log_census() -> None:
    kinds = [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()]
    logger.info("census %s", census(kinds, sys.getallocatedblocks()))


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return BAD_CONFIGURATION


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


if __name__ == "__main__":
    sys.exit(main())
