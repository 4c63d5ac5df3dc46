"""The table at the end of a campaign, from what the checker counted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.history import Outcome
from harness.history_statistics import Gap, Statistics

_SECOND_NS = 1_000_000_000


def as_text(statistics: Statistics, passed: Mapping[str, int], partitions: list[str]) -> str:
    """The table. `passed`: faults that could not be done when their time came; `partitions`: names, by number."""
    return "\n".join(
        [*_faults(statistics, passed), "", *_operations(statistics), "", *_records(statistics, partitions)]
    )


def _faults(statistics: Statistics, passed: Mapping[str, int]) -> list[str]:
    lines = [f"{'faults':44} {'done':>8} {'seconds':>8} {'passed over':>12}"]
    counts = statistics.faults
    for kind in sorted({*counts, *passed}):
        done, lasted_ns = (counts[kind].count, counts[kind].lasted_ns) if kind in counts else (0, 0)
        lines.append(f"  {kind:42} {done:8} {lasted_ns / _SECOND_NS:8.0f} {passed.get(kind, 0):12}")
    lasted_s = sum(count.lasted_ns for count in counts.values()) / _SECOND_NS
    all_done = sum(count.count for count in counts.values())
    lines.append(f"  {'all':42} {all_done:8} {lasted_s:8.0f} {sum(passed.values()):12}")
    return lines


def _operations(statistics: Statistics) -> list[str]:
    by_kind: dict[str, Counter[Outcome]] = {}
    for (client, kind, outcome), count in statistics.operations.items():
        for name in (kind, f"{kind}, {client}"):
            by_kind.setdefault(name, Counter())[outcome] += count
    lines = [f"{'operations':44} {'ok':>8} {'failed':>8} {'unknown':>8} {'all':>8}"]
    lines += [_outcome_line(name, outcomes) for name, outcomes in sorted(by_kind.items())]
    kinds = [outcomes for name, outcomes in by_kind.items() if "," not in name]
    return [*lines, _outcome_line("all", sum(kinds, Counter()))]


def _records(statistics: Statistics, partitions: list[str]) -> list[str]:
    sent = statistics.sent
    lines = [
        f"records sent {sent.total()}: acked {sent['ok']}, failed {sent['failed']}, unknown {sent['unknown']}",
        f"records polled {statistics.polled}, acked and never polled {statistics.unseen}",
        f"processes of the history {statistics.processes}",
    ]
    if statistics.longest_gap is not None:
        lines.append(f"longest time without any ack {_seconds(statistics.longest_gap)}")
    if statistics.longest_gaps:
        worst = max(statistics.longest_gaps.values(), key=lambda gap: gap.length_ns)
        name = "" if worst.partition is None else f" ({partitions[worst.partition]})"
        lines.append(f"longest time without an ack of one partition {_seconds(worst)}{name}")
    return lines


def _seconds(gap: Gap) -> str:
    return f"{gap.length_ns / _SECOND_NS:.1f} s"


def _outcome_line(name: str, outcomes: Counter[Outcome]) -> str:
    counts = f"{outcomes['ok']:8} {outcomes['failed']:8} {outcomes['unknown']:8} {outcomes.total():8}"
    return f"  {name:42} {counts}"
