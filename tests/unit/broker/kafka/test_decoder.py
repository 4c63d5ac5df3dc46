"""Our decoder reads what kio's writer wrote, and nothing that is not there."""

from __future__ import annotations

import struct
from datetime import timedelta
from random import Random

import pytest
from harness.kafka_client import encode
from harness.kafka_messages import message_of
from harness.kafka_rooms import versions_of
from hypothesis import given, settings
from hypothesis import strategies as st
from klamm.broker.kafka import messages
from klamm.broker.kafka.decoder import decode
from klamm.broker.kafka.table import APIS
from klamm.broker.kafka.wire import ELEMENTS_MAX, Cursor, WireError

API_NAMES = [api.name for api in APIS.values()]
VERSIONS = [(api.name, version) for api in APIS.values() for version in range(api.min_version, api.max_version + 1)]


@pytest.mark.parametrize("name", API_NAMES)
def test_every_request_survives_the_wire(name: str) -> None:
    for version in versions_of(name):
        kind, random = messages.request_class(name, version), Random(version)
        for _ in range(4):
            request = message_of(kind, random)
            data = encode(request)
            assert decode(kind, bytearray(b"ab" + data + b"garbage"), 2) == (request, len(data))


@pytest.mark.parametrize("name", API_NAMES)
def test_a_request_cut_short_is_an_error(name: str) -> None:
    for version in versions_of(name):
        kind, random = messages.request_class(name, version), Random(version)
        data = encode(message_of(kind, random))
        places = range(len(data)) if len(data) < 500 else sorted(random.sample(range(len(data)), 100))
        for place in places:
            with pytest.raises(WireError):
                decode(kind, data[:place])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(VERSIONS),
    st.binary(max_size=60) | st.lists(st.sampled_from([0, 1, 2, 255, 127, 128]), max_size=40).map(bytes),
)
def test_any_bytes_are_a_message_or_an_error(api: tuple[str, int], data: bytes) -> None:
    try:
        _, size = decode(messages.request_class(*api), data)
    except WireError:
        return
    assert size <= len(data)


@pytest.mark.parametrize("count", [2**31 - 1, 2**30, 100, -2, -(2**31)])
def test_a_count_that_lies_allocates_nothing(count: int) -> None:
    with pytest.raises(WireError):
        decode(messages.request_class("metadata", 1), struct.pack(">i", count) + b"\0\1a")


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff\x01"])
def test_a_compact_count_that_lies_allocates_nothing(count: bytes) -> None:
    """This very count ends a process that reads it with kio's own reader."""
    with pytest.raises(WireError):
        decode(messages.request_class("metadata", 12), count + b"\0" * 40)


def test_a_request_has_no_more_elements_than_memory_allows() -> None:
    count = ELEMENTS_MAX + 1
    with pytest.raises(WireError, match="elements"):
        decode(messages.request_class("metadata", 1), struct.pack(">i", count) + b"\0\0" * count)


def test_tagged_fields_are_skipped_or_read() -> None:
    kind = messages.request_class("api_versions", 3)
    unknown = b"\x02a\x02b" + b"\x02" + b"\x09\x03abc" + b"\x0a\x00"
    request, size = decode(kind, unknown)
    assert (request.client_software_name, size) == ("a", len(unknown))
    with pytest.raises(WireError):
        decode(kind, b"\x02a\x02b\x01\x09\x7fabc")
    with pytest.raises(WireError):  # the cluster id says that it is longer than its field
        decode(messages.request_class("fetch", 12), encode_fetch_with_cluster_id(b"\x05ab"))


def encode_fetch_with_cluster_id(value: bytes) -> bytes:
    plain = encode(
        messages.request_class("fetch", 12)(
            replica_id=-1,
            max_wait=timedelta(0),
            min_bytes=0,
            topics=(),
            forgotten_topics_data=(),
        )
    )
    return plain[:-1] + b"\x01\x00" + bytes([len(value)]) + value + b"\0" * 8


def test_integers_at_their_limits() -> None:
    cursor = Cursor(bytes([0x80, 0x7F]) + struct.pack(">hq", -(2**15), -(2**63)))
    assert [cursor.int8(), cursor.int8(), cursor.int16(), cursor.int64()] == [-128, 127, -(2**15), -(2**63)]
    with pytest.raises(WireError):
        cursor.int8()
