"""kio does not bring hypothesis into a broker."""

from __future__ import annotations

import subprocess
import sys


def test_the_first_message_does_not_import_hypothesis() -> None:
    code = (
        "import sys\n"
        "from klamm.broker.kafka.messages import request_reader, response_writer\n"
        "request_reader('api_versions', 3), response_writer('api_versions', 3)\n"
        "assert 'kio.static.primitive' in sys.modules\n"
        "assert 'hypothesis' not in sys.modules, 'a second and more of work that no broker needs'\n"
        "import hypothesis\n"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stderr
