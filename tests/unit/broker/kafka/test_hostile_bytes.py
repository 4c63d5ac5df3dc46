"""Every API in every version against hostile clients: an answer, or the end of that connection alone."""

from __future__ import annotations

import asyncio
import logging
import resource
from pathlib import Path
from random import Random

import pytest
from harness.kafka_client import KEYS, KafkaClient, encode, encode_header
from harness.kafka_listener import Serving, one_broker, run_as_a_broker_does, soon
from harness.kafka_messages import hostile, message_of
from harness.kafka_rooms import versions_of
from klamm.broker.kafka import messages
from klamm.broker.kafka.table import APIS

PATIENCE_SECONDS = 0.05
"""Some may wait for an answer longer: a fetch for records, a member for others. They leave."""
MEMORY_GROWTH_MAX = 150 * 1024 * 1024


async def outcome(served: Serving, frame: bytes) -> None:
    """Sends it on a connection of its own; an answer, the end, or a wait that is cut off."""
    async with served.client() as client:
        client.send_frame(frame)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await client.reader.read(4)
        except (TimeoutError, OSError):
            pass


def frames_of(name: str, version: int, random: Random) -> list[bytes]:
    kind = messages.request_class(name, version)
    header = encode_header(KEYS[name], version, 1, "test", flexible=kind.__flexible__)  # type: ignore[attr-defined]
    whole = [encode(message_of(kind, random, times_ms=20)) for _ in range(4)]
    bodies = whole + list(hostile(whole[0], random, 8)) + list(hostile(whole[1], random, 8))
    return [header + body for body in bodies] + list(hostile(header + whole[2], random, 4))


@pytest.mark.parametrize("name", [api.name for api in APIS.values()])
def test_hostile_bytes_harm_nobody(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with one_broker(tmp_path) as (broker, served), served.client() as other:
            await broker.create_topic("t", [1])
            await broker.create_topic("__consumer_offsets", [1])
            for version in versions_of(name):
                random = Random(f"{name}-{version}")
                await asyncio.gather(*(outcome(served, frame) for frame in frames_of(name, version, random)))
                await _is_well(other)
            await soon(lambda: len(served.listener._connections) == 1)
            assert served.listener._held_bytes == 0 and served.listener.rooms.unsent_answers.bytes == 0
            assert not broker.failures

    with caplog.at_level(logging.INFO):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run_as_a_broker_does(main())
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert not [record.message for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert grown < MEMORY_GROWTH_MAX


async def _is_well(client: KafkaClient) -> None:
    answer = await client.call("api_versions", 0)
    assert len(answer.api_keys) == len(APIS)
