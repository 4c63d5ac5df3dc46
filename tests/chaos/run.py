"""`make chaos MINUTES=n`: a fault campaign on real processes, judged by the checker. Exit code 1 on any anomaly.

`python tests/chaos/run.py --minutes 2 --seed 7` repeats the plan of seed 7; whom a fault hits depends on the run. With
root and iproute2 every node is on a host of its own; without, the campaign says so and makes no cuts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

TESTS = Path(__file__).resolve().parents[1]
sys.path[:] = [str(TESTS), *(entry for entry in sys.path if Path(entry).resolve() != TESTS / "chaos")]

from chaos.campaign import PARTITIONS, Campaign, CampaignResult, CampaignSettings, commit, python_path  # noqa: E402
from chaos.guard import FOLDER_PREFIX, sweep_dead_campaigns  # noqa: E402
from chaos.nemesis import FaultKind  # noqa: E402
from chaos.summary import as_text  # noqa: E402
from harness.history import HistoryFile  # noqa: E402
from harness.history_timeline import write_timeline  # noqa: E402

_SHOWN_MAX = 20


def main() -> int:
    """Runs one campaign; returns the exit code."""
    arguments = _arguments()
    os.environ["PYTHONPATH"] = python_path()
    parent = Path(tempfile.gettempdir())
    for words in sweep_dead_campaigns(parent):
        print(words)
    folder = parent / f"{FOLDER_PREFIX}{os.getpid()}"
    seed = SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    settings = CampaignSettings(
        seed=seed,
        seconds=arguments.minutes * 60,
        folder=folder,
        workers=arguments.workers,
        pace_s=arguments.pace_ms / 1000,
        loopback=arguments.loopback,
        kinds=frozenset(FaultKind[name] for name in arguments.only) if arguments.only else None,
    )
    print(f"fault campaign of {arguments.minutes:g} min, commit {commit()}, seed {seed}; files in {folder}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was made is removed
    try:
        result = Campaign(settings).run()
    except KeyboardInterrupt:
        print(f"stopped; what there is of the history is in {folder}")
        return 130
    text = report(result)
    print(text)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    _draw_timeline(result)
    if result.ok:
        for data in folder.glob("nodes/*/disk"):
            shutil.rmtree(data)
    print(f"history, timeline, report and logs are in {folder}")
    return 0 if result.ok else 1


def report(result: CampaignResult) -> str:
    """The table, and all that was found."""
    lines = []
    verdict = result.verdict
    if verdict is not None:
        lines += ["", as_text(verdict.statistics, result.passed, [f"{topic}-{n}" for topic, n in PARTITIONS]), ""]
        lines += [f"NOT JUDGED: {words}" for words in verdict.unchecked]
        lines += [f"ANOMALY {name.value}: {count}" for name, count in sorted(verdict.counts.items())]
        for anomaly in verdict.anomalies[:_SHOWN_MAX]:
            lines.append(f"  {anomaly.name.value}, partition {anomaly.partition}: {anomaly.description}")
            lines.append(f"    entries {', '.join(map(str, anomaly.entries[:10]))}")
    lines += [f"TROUBLE: {words}" for words in result.trouble]
    anomalies = 0 if verdict is None else verdict.counts.total()
    lines.append(f"{anomalies} anomalies, {len(result.trouble)} other findings")
    return "\n".join(lines)


def _draw_timeline(result: CampaignResult) -> None:
    assert result.history is not None and result.verdict is not None  # run() sets both
    write_timeline(HistoryFile(result.history), result.verdict, result.history.with_name("timeline.html"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults are inflicted (2)")
    parser.add_argument("--seed", type=int, help="of the plan and the workload; drawn and printed by default")
    parser.add_argument("--workers", type=int, default=4, help="threads of each of the client programs (4)")
    parser.add_argument("--pace-ms", type=float, default=30.0, help="mean rest between a thread's operations (30)")
    parser.add_argument("--loopback", action="store_true", help="all nodes on this host: no cuts")
    parser.add_argument("--only", action="append", choices=[kind.name for kind in FaultKind], help="these faults alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
