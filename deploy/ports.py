"""Ports for nodes: picked by the kernel or asked for by number, held while a cluster lives; and who has one in use.

A reservation is a socket that is bound with SO_REUSEADDR and never listens. Linux then lets one node of ours bind and
listen on the same port with SO_REUSEADDR (gRPC sets it), while nobody gets it from the kernel as a free port, for
listening or for a connection going out. So a node that was killed finds its port again. A port on which somebody
listens cannot be reserved, which is how one in use is found.
"""

from __future__ import annotations

import errno
import socket

from .errors import PortInUseError


class PortReservation:
    """One port, held until `close`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Holds the port, or one that the kernel picks if it is 0.

        :raises PortInUseError: somebody has it.
        """
        self.host = host
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortInUseError(host, port, describe_port_owner(port)) from error
            raise
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Gives the port up; a node that listens on it keeps it."""
        self._socket.close()


def describe_port_owner(port: int) -> str | None:
    """Name and pid of the process that has this TCP port, if the system lets us know."""
    import psutil  # here: only an error needs it, and it would slow down every command

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    holders = [c for c in connections if c.laddr and c.laddr.port == port and c.pid is not None]
    # Whoever listens is the one to name; without a listener, whoever else is bound to the port.
    holders.sort(key=lambda connection: connection.status != psutil.CONN_LISTEN)
    for holder in holders:
        try:
            process = psutil.Process(holder.pid)
            return f"{process.name()} (pid {process.pid}: {' '.join(process.cmdline())[:80]})"
        except psutil.Error:
            continue  # it ended meanwhile
    return None
