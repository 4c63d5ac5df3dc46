"""Requests found in a stream of bytes, however it is cut; lengths that lie cost nothing."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klamm.broker.kafka.framing import FrameReader

MAX = 1 << 20


def reader(bytes_max: int = MAX, shared: int = 4096) -> FrameReader:
    return FrameReader(memoryview(bytearray(shared)), bytes_max)


def feed(frames: FrameReader, data: bytes) -> list[bytes]:
    """The whole requests in `data`, put in as often as the buffer is full."""
    found: list[bytes] = []
    while data:
        buffer = frames.buffer()
        part, data = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(part)] = part
        found += map(bytes, frames.received(len(part)))
    return found


def framed(*bodies: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(body)) + body for body in bodies)


@given(st.lists(st.binary(max_size=20_000), max_size=8), st.lists(st.integers(1, 9000), min_size=1))
def test_the_stream_may_be_cut_anywhere(bodies: list[bytes], cuts: list[int]) -> None:
    data, frames, found = framed(*bodies), reader(), []
    turn = 0
    while data:
        size = cuts[turn % len(cuts)]
        found += feed(frames, data[:size])
        data, turn = data[size:], turn + 1
    assert found == bodies
    assert frames.held_bytes == 0


@pytest.mark.parametrize("size", [-1, -(2**31), MAX + 1, 2**31 - 1])
def test_an_impossible_length_ends_it_and_allocates_nothing(size: int) -> None:
    frames = reader()
    assert feed(frames, framed(b"first") + struct.pack(">i", size)) == [b"first"]
    assert frames.error is not None and str(size) in str(frames.error)
    assert frames.held_bytes == 0
    assert feed(frames, framed(b"more")) == []


def test_memory_grows_with_what_came_not_with_what_was_claimed() -> None:
    frames = reader(bytes_max=100 << 20)
    feed(frames, struct.pack(">i", 100 << 20) + b"x")
    assert frames.held_bytes <= 4096
    came = 1
    for _ in range(10):
        feed(frames, bytes(50_000))
        came += 50_000
        assert frames.held_bytes <= max(4 * came, 4096)


def test_an_old_buffer_that_the_event_loop_still_holds_is_no_obstacle() -> None:
    frames = reader()
    feed(frames, struct.pack(">i", 100_000))
    held = frames.buffer()
    held[:] = b"a" * len(held)
    assert frames.received(len(held)) == ()
    assert feed(frames, b"b" * (100_000 - len(held)))[0].count(b"a") == len(held)
