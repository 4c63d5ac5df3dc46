"""`python -m klamm.broker --config F`: one broker, until SIGTERM or SIGINT.

Prints one line on stdout when it serves; logs go to stderr. SIGUSR1 writes to the log how many tasks and objects there
are. Exit codes: 0 stopped in order, 1 failure, 2 bad configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..cluster.log_format import LineFormatter
from ..cluster.task_census import census
from ..proto.errors import KafkaConfigurationError, KafkaError
from .allocator import keep_freed_memory
from .config import BrokerConfig

if TYPE_CHECKING:
    from .server import BrokerServer, ServingAt

logger = logging.getLogger(__name__)


def main() -> int:
    """Runs the broker; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m klamm.broker", description="Runs one Klamm broker.")
    parser.add_argument("--config", required=True, type=Path, metavar="F", help="the configuration file (key=value)")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    arguments = parser.parse_args()
    try:
        config = BrokerConfig.load(arguments.config)
    except KafkaConfigurationError as error:
        print(f"broker: {arguments.config}: {error}", file=sys.stderr)
        return 2
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(f"broker-{config.node_id}"))
    logging.basicConfig(level=arguments.log_level, handlers=[handler])
    keep_freed_memory()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(config))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _run(config: BrokerConfig) -> int:
    from .log.errors import LogDirectoryError
    from .server import BrokerServer

    server = BrokerServer(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.request_stop)
    loop.add_signal_handler(signal.SIGUSR1, _log_census)
    code = 0
    try:
        serving = await _start_or_stop(server)
        if serving is not None:
            kafka = "" if serving.kafka is None else f" kafka={serving.kafka}"
            print(f"READY node=broker-{config.node_id} pid={os.getpid()} grpc={serving.grpc}{kafka}", flush=True)
            await server.wait_for_stop()
    except (KafkaError, LogDirectoryError, OSError) as error:
        print(f"broker {config.node_id}: {error}", file=sys.stderr)
        code = 1
    except Exception:
        logger.critical("broker_failed node=%d", config.node_id, exc_info=True)
        code = 1
    await server.stop()
    if code == 0 and server.failure is not None:
        logger.critical("broker_failed_while_stopping node=%d", config.node_id, exc_info=server.failure)
        code = 1
    return code


def _log_census() -> None:
    kinds = [getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()]
    logger.info("census %s", census(kinds, sys.getallocatedblocks()))


async def _start_or_stop(server: BrokerServer) -> ServingAt | None:
    """The addresses once it serves; None if it was told to stop before that."""
    start = asyncio.create_task(server.start())
    stop = asyncio.create_task(server.wait_for_stop())
    await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not start.done():
        start.cancel()
        await asyncio.wait({start})
        await stop
        return None
    stop.cancel()
    return start.result()


if __name__ == "__main__":
    sys.exit(main())
