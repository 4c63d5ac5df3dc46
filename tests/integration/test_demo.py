"""The failover demo, with a smaller body."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

KLAMM = Path(sys.executable).parent / "klamm"


def test_rule_3_no_acked_record_is_lost_in_a_failover() -> None:
    done = subprocess.run(
        [str(KLAMM), "demo", "failover", "--plain", "--lines", "150000"], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150,000 records acked, 150,000 stored, 18 replicas" in done.stdout
    for fault in ("kill -9 of the leader", "kill -9 of the active controller", "SIGSTOP of a follower"):
        assert fault in done.stdout
    assert "BREACH" not in done.stdout
