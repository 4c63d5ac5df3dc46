from __future__ import annotations

import os
import subprocess
import sys

import pytest

MEGABYTES_A_TURN = 6
TURNS = 200

# Takes and frees what a fetch of six partitions reads, again and again; prints how many pages the kernel had to bring.
PROGRAM = f"""
import resource
from klamm.broker.allocator import keep_freed_memory

took_effect = keep_freed_memory()

def turn():
    blocks = [b"x" * (1 << 20) for _ in range({MEGABYTES_A_TURN})]

turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TURNS}):
    turn()
print(took_effect, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**environment: str) -> tuple[bool, int]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    took_effect, faults = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=variables | environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return took_effect == "True", int(faults)


def test_memory_that_was_freed_is_used_again() -> None:
    took_effect, faults = run()
    if not took_effect:
        pytest.skip("the C library is not glibc")
    assert faults < 4096  # what two turns take; two hundred, if each came from the kernel, some 300,000


def test_what_the_environment_says_of_the_allocator_stays() -> None:
    took_effect, _ = run(MALLOC_TRIM_THRESHOLD_="65536")
    assert not took_effect
