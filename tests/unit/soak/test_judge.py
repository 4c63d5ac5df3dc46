"""Who is judged by itself, and who is compared with its earlier lives."""

from __future__ import annotations

from soak.judge import TOLERANCES, judge, warm_up_s
from soak.sampler import BEHIND, METRICS, PROCESSOR, WAITING

MINUTES_20 = 1200.0


def series(began: int, length: int, value: float, growth: float = 0.0) -> list[tuple[float, float]]:
    return [(float(began + age), value + growth * age) for age in range(0, length, 2)]


def test_everything_that_processes_hold_is_judged() -> None:
    assert set(TOLERANCES) == set(METRICS) - {PROCESSOR, BEHIND, WAITING}


def test_a_leak_of_one_process_is_named_and_no_other() -> None:
    processes = {
        "controller-1": [{"tasks": series(0, 1200, 40), "threads": series(0, 1200, 9)}],
        "controller-2": [{"tasks": series(0, 1200, 40, growth=0.02), "threads": series(0, 1200, 9)}],
    }
    verdicts = judge(processes, MINUTES_20)
    assert [(each.process, each.metric) for each in verdicts if each.rises] == [("controller-2", "tasks")]
    assert len(verdicts) == 4 and all(each.trend is not None for each in verdicts)


def test_growth_while_warming_up_is_none() -> None:
    warming = [(float(second), 1e8 + 1e6 * min(second, 200)) for second in range(0, 1200, 2)]
    (verdict,) = judge({"controller-1": [{"resident memory": warming}]}, MINUTES_20)
    assert verdict.trend is not None and not verdict.rises
    assert warm_up_s(MINUTES_20) == 240


def test_a_broker_that_is_restarted_is_compared_with_its_earlier_lives() -> None:
    steady = [{"file descriptors": series(60 * life, 50, 90, growth=1.0)} for life in range(20)]
    (verdict,) = judge({"broker-1": steady}, MINUTES_20)
    assert verdict.trend is not None and not verdict.rises and verdict.how == "20 lives"
    leaking = [{"file descriptors": series(60 * life, 50, 90 + life, growth=1.0)} for life in range(20)]
    assert judge({"broker-1": leaking}, MINUTES_20)[0].rises


def test_too_short_a_run_is_not_judged() -> None:
    lives = [{"tasks": series(60 * life, 50, 40)} for life in range(3)]
    (verdict,) = judge({"broker-1": lives}, 180)
    assert verdict.trend is None and not verdict.rises
