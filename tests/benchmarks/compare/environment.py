"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import klamm
import psutil

from . import apache_kafka


def environment() -> dict[str, str]:
    """What a reader needs in order to judge the figures."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "disk": f"{_file_system()} on {tempfile.gettempdir()}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Java": _java(),
        "Klamm": _klamm(),
        "Apache Kafka": apache_kafka.version(),
        "confluent-kafka": version("confluent-kafka"),
        "kafka-python": version("kafka-python"),
        "aiokafka": version("aiokafka"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system() -> str:
    folder = os.path.realpath(tempfile.gettempdir())
    holding = [
        p for p in psutil.disk_partitions(all=True) if os.path.commonpath([folder, p.mountpoint]) == p.mountpoint
    ]
    return max(holding, key=lambda partition: len(partition.mountpoint)).fstype if holding else "an unknown file system"


def _java() -> str:
    if shutil.which("java") is None:
        return "none"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
    return said[1] if len(said) > 1 else "unknown"


def _klamm() -> str:
    folder = Path(klamm.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    return f"{klamm.__version__} {commit}".strip()
