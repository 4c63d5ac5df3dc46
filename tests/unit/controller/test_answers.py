"""Answers are remembered, in order, up to a number and a size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.controller import answers as module
from klamm.controller.answers import RememberedAnswers


def filled(count: int, size: int = 4) -> RememberedAnswers:
    return RememberedAnswers.of((number.to_bytes(4, "big"), b"r" * size) for number in range(count))


def test_what_was_remembered_is_found_and_older_states_do_not_change() -> None:
    before = filled(3)
    after = before.with_answer(b"new", b"answer")
    assert after.get(b"new") == b"answer"
    assert before.get(b"new") is None
    assert (len(before), len(after)) == (3, 4)
    assert [request_id for request_id, _ in after][-1] == b"new"


def test_the_oldest_go_first() -> None:
    answers = filled(module.ANSWERS_MAX + 500)
    assert len(answers) == module.ANSWERS_MAX
    assert answers.get((499).to_bytes(4, "big")) is None
    assert answers.get((500).to_bytes(4, "big")) is not None
    assert next(iter(answers))[0] == (500).to_bytes(4, "big")


def test_large_answers_push_out_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_BYTES_MAX", 100)
    answers = filled(50, size=16)  # 20 bytes each
    assert len(answers) == 5
    assert answers.size_bytes == 100
    answers = answers.with_answer(b"huge", b"x" * 100)
    assert len(answers) == 0
    assert answers.size_bytes == 0


@given(
    st.lists(st.integers(0, 30), max_size=80),
    st.integers(0, 80),
)
def test_a_restored_controller_forgets_at_the_same_time(sizes: list[int], cut: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ANSWERS_MAX", 12)
        patch.setattr(module, "ANSWERS_BYTES_MAX", 200)
        patch.setattr(module, "_PIECE_SIZE", 5)
        pairs = [(number.to_bytes(2, "big"), b"x" * size) for number, size in enumerate(sizes)]
        live = RememberedAnswers.of(pairs[:cut])
        restored = RememberedAnswers.of(live)
        for pair in pairs[cut:]:
            live, restored = live.with_answer(*pair), restored.with_answer(*pair)
        assert live == restored
        assert (live.count, live.size_bytes) == (restored.count, restored.size_bytes)
        assert live.count == len(list(live)) <= 12
        assert live.size_bytes == sum(len(key) + len(value) for key, value in live) <= 200
