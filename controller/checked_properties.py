"""Small text files of "key=value" lines whose last line is a CRC of the others: readable by people, never half read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

from .raft_contract import DataFolderError


def encode_properties(properties: Mapping[str, str]) -> bytes:
    """The file's bytes."""
    body = "".join(f"{key}={value}\n" for key, value in properties.items()).encode()
    return body + f"crc32={zlib.crc32(body):08x}\n".encode()


def decode_properties(data: bytes, path: Path, way_out: str) -> dict[str, str]:
    """What the file says. :raises DataFolderError: torn, corrupt or edited by hand"""
    body, mark, checksum = data.rpartition(b"crc32=")
    if not mark or checksum != f"{zlib.crc32(body):08x}\n".encode():
        raise DataFolderError(f"{path}: corrupt or torn (its checksum does not match); {way_out}")
    lines = (line.partition("=") for line in body.decode().splitlines())
    return {key: value for key, _, value in lines}
