"""The README's first Python program does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import klamm
import pytest
from klamm.deploy.local import LocalCluster

pytestmark = pytest.mark.integration

README = Path(klamm.__file__).parent / "README.md"


def test_first_produce_and_consume(klamm_cluster: LocalCluster) -> None:
    program = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    program = program.replace("127.0.0.1:9192", klamm_cluster.bootstrap_servers)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    lines = [line.split(" ", 3) for line in done.stdout.splitlines()]
    assert [(int(offset), value) for _, offset, _, value in lines] == [(n, f"b'hello {n}'") for n in range(10)]
