"""A node process that serves nothing: it says READY as a real one does, and ends on SIGTERM.

It reads its ways from its properties file: fake.ready=false (keeps silent), fake.exit=N (ends with this code),
fake.ignore.sigterm=true. It binds the ports that it is told, as a real node does.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path


def main() -> int:
    path = Path(sys.argv[sys.argv.index("--config") + 1])
    config = dict(line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines())
    addresses = [part.split("://")[1].rsplit(":", 1) for part in config["listeners"].split(",")]
    print(f"fake_node_starting id={config['node.id']}", file=sys.stderr, flush=True)
    if "fake.exit" in config:
        print("fake_node_failed reason=told_to", file=sys.stderr, flush=True)
        return int(config["fake.exit"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "fake.ignore.sigterm" in config else lambda *_: sys.exit(0))
    listeners = [socket.socket() for _ in addresses]
    for listener, (host, port) in zip(listeners, addresses, strict=True):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen()
    if config.get("fake.ready") != "false":
        print(f"READY node=fake-{config['node.id']} pid=0 grpc={':'.join(addresses[0])}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
