from __future__ import annotations

import os
import socket

import pytest
from klamm.deploy.errors import PortInUseError
from klamm.deploy.ports import PortReservation


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_kernel_picks_distinct_ports() -> None:
    reservations = [PortReservation() for _ in range(200)]
    ports = {reservation.port for reservation in reservations}
    for reservation in reservations:
        reservation.close()
    assert len(ports) == 200


def test_node_may_listen_on_a_reserved_port_and_again_after_it_ended() -> None:
    reservation = PortReservation()
    for _ in range(2):
        with _listen(reservation.port) as listener, socket.create_connection(("127.0.0.1", reservation.port)):
            accepted, _ = listener.accept()
            accepted.close()
    reservation.close()


def test_others_do_not_get_a_reserved_port() -> None:
    reservation = PortReservation()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", reservation.port))
    reservation.close()


def test_port_in_use_names_the_port_and_the_process() -> None:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()
        port = plain.getsockname()[1]
        with pytest.raises(PortInUseError) as caught:
            PortReservation(port=port)
    assert str(port) in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)


def test_a_listener_with_reuse_address_counts_as_in_use_too() -> None:
    with PortlessListener() as port, pytest.raises(PortInUseError, match=str(port)):
        PortReservation(port=port)


class PortlessListener:
    """A listener on a port of the kernel's choice, as a node is one."""

    def __enter__(self) -> int:
        self._listener = _listen(0)
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listener.close()
