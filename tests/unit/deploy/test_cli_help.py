"""`klamm --help` is quick because nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "sys.argv = ['klamm', '--help']\n"
        "from klamm.deploy.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'grpc', 'rich.table', 'psutil', 'asyncio', 'aiokafka', 'google.protobuf'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("heavy: []")
    for command in ("up", "down", "status", "clean", "demo", "broker", "controller", "topics", "produce", "consume"):
        assert f"  {command} " in done.stdout
