"""Prepares a controller's data folder: `python -m klamm.controller.format new|readmit --config F`.

A controller never takes an empty folder for a new one: it may have been wiped, and would then vote and ack as if it
knew the past. So a human, or the launcher of a brand-new cluster, says which it is (quorum_folder.py):

    new       once for each controller of a brand-new quorum, before its first start
    readmit   a wiped or damaged controller, while a majority of the others still has its data; it learns from them

Exit codes: 0 done, 2 refused, with one line on stderr that says why.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..proto.errors import KafkaConfigurationError
from .config import ControllerConfig
from .quorum_folder import MARKER, format_new
from .raft_contract import DataFolderError
from .raft_node import RaftNode


def main() -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m klamm.controller.format", description="Prepares a data folder.")
    parser.add_argument("command", choices=("new", "readmit"), help="a brand-new quorum's, or a wiped controller's")
    parser.add_argument("--config", required=True, type=Path, metavar="F", help="the controller's configuration file")
    parser.add_argument("--set-aside", action="store_true", help="readmit: keep damaged files in a folder beside")
    arguments = parser.parse_args()
    try:
        config = ControllerConfig.load(arguments.config)
        if arguments.command == "new":
            format_new(config.metadata_log_dir, config.quorum_id)
        else:
            RaftNode.readmit(config.metadata_log_dir, config.quorum_id, set_aside=arguments.set_aside)
    except (KafkaConfigurationError, DataFolderError, OSError) as error:
        print(f"controller: {arguments.config}: {error}", file=sys.stderr)
        return 2
    print(f"{config.metadata_log_dir}: ready for controller {config.node_id} of quorum {config.quorum_id}")
    return 0


def format_if_empty(config: ControllerConfig) -> None:
    """What `--new-quorum` does before a start: formats the folder unless it was formatted before.

    :raises DataFolderError: it has no marker and yet holds a controller's files
    """
    if not (config.metadata_log_dir / MARKER).exists():
        format_new(config.metadata_log_dir, config.quorum_id)


if __name__ == "__main__":
    sys.exit(main())
