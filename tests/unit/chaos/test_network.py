"""Hosts in network namespaces: cuts in one direction, and nothing left behind. For root, with iproute2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.guard import FOLDER_PREFIX, TOKEN_FILE, sweep_dead_campaigns
from chaos.network import LoopbackNetwork, NamespaceNetwork, Way, owners_of_leftovers
from chaos.shell_command import ShellCommandError

_ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 9)); print("ready", flush=True)
while True:
    data, sender = s.recvfrom(99); s.sendto(data, sender)
"""
_ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(float(sys.argv[2])); s.sendto(b"?", (sys.argv[1], 9))
try: print(s.recv(99).decode())
except TimeoutError: print("silence")
"""
_PYTHON = [sys.executable, "-I", "-S", "-c"]


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def network() -> Iterator[NamespaceNetwork]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces are for root")
    try:
        made = NamespaceNetwork(["a", "b", "c"], owner=_dead_pid())
    except ShellCommandError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    yield made
    made.close()


def _answer(network: NamespaceNetwork, asker: str, timeout_s: float) -> str:
    command = network.command(asker, [*_PYTHON, _ASK, network.address("a"), str(timeout_s)])
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_cut_is_one_way_and_heals(network: NamespaceNetwork) -> None:
    command = network.command("a", [*_PYTHON, _ECHO, network.address("a")])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as echo:
        try:
            assert echo.stdout is not None and echo.stdout.readline() == b"ready\n"
            assert _answer(network, "b", 10) == "?"
            for way in (Way("b", "a"), Way("a", "b")):  # the question is lost, the answer is lost
                network.set_cuts(frozenset({way}))
                assert _answer(network, "b", 0.1) == "silence"
                assert _answer(network, "c", 10) == "?", "others are not concerned"
            network.set_cuts(frozenset())
            assert _answer(network, "b", 10) == "?"
        finally:
            echo.kill()


def test_a_link_is_slowed_down_and_freed(network: NamespaceNetwork) -> None:
    if network.slow_link is None:
        pytest.skip("this kernel slows no link down")
    assert network.slow_down("a", 0.5)
    network.speed_up("a")
    network.speed_up("a")  # it is not slow: nothing happens


def test_what_a_dead_campaign_left_is_removed(network: NamespaceNetwork, tmp_path: Path) -> None:
    folder = tmp_path / f"{FOLDER_PREFIX}{network.owner}"
    (folder / "nodes").mkdir(parents=True)
    (folder / TOKEN_FILE).write_text("none", encoding="ascii")
    assert network.owner in owners_of_leftovers()
    assert any(str(network.owner) in words for words in sweep_dead_campaigns(tmp_path))
    assert network.owner not in owners_of_leftovers()
    assert not folder.exists()


def test_campaigns_that_live_or_have_come_to_their_end_are_left_alone(tmp_path: Path) -> None:
    living, ended = tmp_path / f"{FOLDER_PREFIX}{os.getpid()}", tmp_path / f"{FOLDER_PREFIX}{_dead_pid()}"
    living.mkdir()
    (living / TOKEN_FILE).write_text("none", encoding="ascii")
    ended.mkdir()
    sweep_dead_campaigns(tmp_path)
    assert living.exists() and ended.exists()


def test_on_loopback_there_is_nothing_to_cut() -> None:
    network = LoopbackNetwork()
    assert network.command("broker-1", ["true"]) == ["true"]
    network.set_cuts(frozenset())
    with pytest.raises(ShellCommandError, match="no links"):
        network.set_cuts(frozenset({Way("a", "b")}))
