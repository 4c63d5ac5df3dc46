"""Hosts of their own for the nodes and the clients: network namespaces, joined by a bridge; plain loopback without.

Every host has one address in a network of this run's. A cut is one-way: the host that sends keeps a neighbour entry
with a hardware address that nobody has, so its packets leave and arrive nowhere, as on a cut wire. Connections hang
until their time-outs, nobody is told. (A blackhole route would be the obvious way: it makes the sender's `send` fail at
once, which no cut wire does. A packet filter would do too; this needs iproute2 alone.)

The campaign itself speaks to all nodes through the bridge, from outside of all namespaces; it is never cut.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from chaos.shell_command import ShellCommandError, run, succeeds

NAME_PREFIX: Final = "klamm-chaos-"
"""Of namespaces; the campaign's pid and the host's name follow."""
_LINK_PREFIX: Final = "kc"
"""Of the bridge and the links on it; the kernel takes 15 characters."""
_NOBODY: Final = "02:6b:00:00:ff:ff"
_DEVICE: Final = "eth0"
_LOCK: Final = "klamm-chaos.lock"


class Way(NamedTuple):
    """From one host to another, by name; the way back is another way."""

    sender: str
    receiver: str


class Network(Protocol):
    """Where the hosts of a campaign are, and what can be done to the links between them."""

    can_cut: bool
    slow_link: str | None
    """What makes a link slow here, in words; None: nothing can."""

    def address(self, host: str) -> str:
        """The address that the host's programs listen on."""

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on the host."""

    def set_cuts(self, ways: frozenset[Way]) -> None:
        """From now on these ways are cut, and no others."""

    def slow_down(self, host: str, severity: float) -> str:
        """Makes all that the host sends slow, from 0.0, a little, to 1.0; says in words what it did."""

    def speed_up(self, host: str) -> None:
        """Undoes `slow_down`."""

    def close(self) -> None:
        """Removes all that was made."""


class LoopbackNetwork:
    """All hosts are this one: for machines where namespaces cannot be made."""

    can_cut = False
    slow_link: str | None = None

    def address(self, host: str) -> str:
        return "127.0.0.1"

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        return list(command)

    def set_cuts(self, ways: frozenset[Way]) -> None:
        if ways:
            raise ShellCommandError("there are no links to cut on loopback")

    def slow_down(self, host: str, severity: float) -> str:
        raise ShellCommandError("there are no links to slow down on loopback")

    def speed_up(self, host: str) -> None:
        return

    def close(self) -> None:
        return


class NamespaceNetwork:
    """One network namespace for each host. Made by root alone."""

    can_cut = True

    def __init__(self, hosts: Sequence[str], *, owner: int | None = None) -> None:
        """:raises ShellCommandError: it cannot be made here; what was made of it is removed."""
        self.owner = os.getpid() if owner is None else owner  # whose name is in those of all that is made
        self._numbers = {host: number for number, host in enumerate(hosts, start=2)}
        self._cuts: frozenset[Way] = frozenset()
        self._bridge = f"{_LINK_PREFIX}{self.owner}"
        try:
            self._subnet = self._make_bridge()
            self._make_hosts()
        except ShellCommandError:
            self.close()
            raise
        first = hosts[0]
        netem = ["tc", "-n", self._namespace(first), "qdisc", "replace", "dev", _DEVICE, "root", "netem"]
        self._has_netem = succeeds([[*netem, "delay", "1ms"]])
        narrow = [*netem[:-1], "tbf", "rate", "1mbit", "burst", "8kb", "latency", "1s"]
        has_tbf = self._has_netem or succeeds([narrow])
        self.slow_link: str | None = (
            "netem: delay and loss" if self._has_netem else "tbf: a narrow link (no netem here)" if has_tbf else None
        )
        self.speed_up(first)

    def address(self, host: str) -> str:
        return f"{self._subnet}.{self._numbers[host]}"

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        # `ip netns exec` becomes the command: the process that is started is the one that runs.
        return ["ip", "netns", "exec", self._namespace(host), *command]

    def set_cuts(self, ways: frozenset[Way]) -> None:
        for sender in self._numbers:
            changed = [way for way in ways ^ self._cuts if way.sender == sender]
            if changed:
                lines = [self._neighbour(way.receiver, dead=way in ways) for way in changed]
                run("ip", "-n", self._namespace(sender), "-batch", "-", standard_input="\n".join(lines) + "\n")
        self._cuts = ways

    def slow_down(self, host: str, severity: float) -> str:
        qdisc = ["tc", "-n", self._namespace(host), "qdisc", "replace", "dev", _DEVICE, "root"]
        if self._has_netem:
            delay_ms, loss = int(20 + 280 * severity), round(3 * severity, 1)
            run(*qdisc, "netem", "delay", f"{delay_ms}ms", f"{delay_ms // 3}ms", "loss", f"{loss}%")
            return f"{delay_ms} ms of delay, {loss} % lost"
        kilobits = int(2000 - 1800 * severity)
        run(*qdisc, "tbf", "rate", f"{kilobits}kbit", "burst", "8kb", "latency", "800ms")
        return f"{kilobits} kbit/s"

    def speed_up(self, host: str) -> None:
        # There is nothing to delete if it was not slow; then tc says so, and all is well.
        succeeds([["tc", "-n", self._namespace(host), "qdisc", "del", "dev", _DEVICE, "root"]])

    def close(self) -> None:
        remove_links_and_namespaces(self.owner)

    def _make_bridge(self) -> str:
        """Returns the first three numbers of the network that is the bridge's from now on."""
        lock = os.open(Path(tempfile.gettempdir()) / _LOCK, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another campaign may be looking for a free network just now
            subnet = _free_subnet()
            run("ip", "link", "add", self._bridge, "type", "bridge")
            run("ip", "address", "add", f"{subnet}.1/24", "dev", self._bridge)
            run("ip", "link", "set", self._bridge, "up")
        finally:
            os.close(lock)
        return subnet

    def _make_hosts(self) -> None:
        for host, number in self._numbers.items():
            namespace, link = self._namespace(host), f"{self._bridge}n{number}"
            run("ip", "netns", "add", namespace)
            run("ip", "link", "add", link, "type", "veth", "peer", "name", _DEVICE, "netns", namespace)
            run("ip", "link", "set", link, "master", self._bridge, "up")
            lines = [
                f"link set {_DEVICE} address {_hardware_address(number)} up",
                f"address add {self._subnet}.{number}/24 dev {_DEVICE}",
                "link set lo up",
                *(self._neighbour(other, dead=False) for other in self._numbers if other != host),
            ]
            run("ip", "-n", namespace, "-batch", "-", standard_input="\n".join(lines) + "\n")

    def _neighbour(self, host: str, *, dead: bool) -> str:
        lladdr = _NOBODY if dead else _hardware_address(self._numbers[host])
        return f"neighbour replace {self.address(host)} lladdr {lladdr} dev {_DEVICE} nud permanent"

    def _namespace(self, host: str) -> str:
        return f"{NAME_PREFIX}{self.owner}-{host}"


def make_network(hosts: Sequence[str], *, loopback: bool) -> tuple[Network, str]:
    """The best network that this machine has, or loopback, and a sentence that says what it is."""
    if loopback:
        return LoopbackNetwork(), "plain loopback, as asked for: NO CUTS ARE MADE"
    if os.geteuid() != 0:
        return LoopbackNetwork(), "plain loopback: NO CUTS ARE MADE (network namespaces need root)"
    try:
        network = NamespaceNetwork(hosts)
    except ShellCommandError as error:
        return LoopbackNetwork(), f"plain loopback: NO CUTS ARE MADE ({error})"
    slow = network.slow_link or "links cannot be slowed down here"
    return network, f"{len(hosts)} network namespaces on one bridge; slow links by {slow}"


def owners_of_leftovers() -> set[int]:
    """The pids of campaigns whose namespaces or links are there, alive or not."""
    owners = {match.group(1) for name in _links() if (match := re.fullmatch(rf"{_LINK_PREFIX}(\d+)(n\d+)?", name))}
    owners |= {name[len(NAME_PREFIX) :].partition("-")[0] for name in _namespaces()}
    return {int(owner) for owner in owners if owner.isdigit()}


def remove_links_and_namespaces(owner: int) -> None:
    """Removes the bridge, the links and the namespaces of the campaign with this pid."""
    # Links would go with their namespaces, but those live on unseen while a broken connection in them does.
    for link in _links():
        if re.fullmatch(rf"{_LINK_PREFIX}{owner}(n\d+)?", link):
            succeeds([["ip", "link", "delete", link]])  # one may go by itself meanwhile
    for namespace in _namespaces():
        if namespace.startswith(f"{NAME_PREFIX}{owner}-"):
            run("ip", "netns", "delete", namespace)


def _links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").glob(f"{_LINK_PREFIX}*"))


def _namespaces() -> list[str]:
    try:
        listed = run("ip", "netns", "list")
    except ShellCommandError:
        return []  # no iproute2, or no right to ask: then there is nothing of ours
    return [line.split()[0] for line in listed.splitlines() if line.startswith(NAME_PREFIX)]


def python_on(network: Network, host: str, *arguments: str) -> list[str]:
    """A command that runs this Python on the host."""
    return network.command(host, [sys.executable, "-P", *arguments])


def _hardware_address(number: int) -> str:
    return f"02:6b:00:00:00:{number:02x}"


def _free_subnet() -> str:
    """Three numbers of an IPv4 network that no link of this machine is in."""
    used = subprocess.run(["ip", "-4", "address"], capture_output=True, text=True, check=False).stdout
    for third in range(256):
        if f"10.77.{third}." not in used:
            return f"10.77.{third}"
    raise ShellCommandError("every network from 10.77.0.0/24 to 10.77.255.0/24 is in use")
