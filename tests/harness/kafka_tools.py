"""Apache Kafka's own command-line tools, run from its published jars.

The jars lie in $KLAMM_KAFKA_JARS, or in ~/.cache/klamm/kafka-jars/<version>, where Maven puts them when it is there;
which ones, contract/java/pom.xml says.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

POM = Path(__file__).parents[1] / "contract" / "java" / "pom.xml"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
MAVEN_SECONDS_MAX = 300

TOOLS = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-dump-log": "org.apache.kafka.tools.DumpLogSegments",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
}

# A tool lives for a second: what makes a long run faster only makes its start slower.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m", "-cp")


class NoKafkaToolsError(Exception):
    """There is no Java, or no jars and no Maven to bring them."""


def kafka_version() -> str:
    """The version that the pom names."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", POM.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


class KafkaTools:
    """Runs a tool by the name of its script in Kafka's bin folder."""

    def __init__(self) -> None:
        """:raises NoKafkaToolsError: they cannot be had; the message is a reason to skip a test."""
        if shutil.which("java") is None:
            raise NoKafkaToolsError("there is no Java")
        self._jars = _jars()

    @property
    def class_path(self) -> str:
        """All of the jars, as `java -cp` takes them; they hold Kafka's server, too."""
        return f"{self._jars}/*"

    def command(self, tool: str, *arguments: str) -> list[str]:
        """The whole command line."""
        return [*JAVA, self.class_path, TOOLS[tool], *arguments]

    def start(self, tool: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts it with pipes; several JVMs starting side by side take little more time than one."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(tool, *arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def run(self, tool: str, *arguments: str, given: str | None = None) -> str:
        """What it prints. :raises AssertionError: it fails."""
        return finish(self.start(tool, *arguments), given=given)


def finish(process: subprocess.Popen[str], *, given: str | None = None, timeout_s: float = 60.0) -> str:
    """Waits for a started tool and returns what it printed. :raises AssertionError: it failed."""
    try:
        out, complaint = process.communicate(given, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, complaint = process.communicate()
        raise AssertionError(f"it took longer than {timeout_s:g} s; it printed {out}{complaint}") from None
    assert process.returncode == 0, out + complaint
    return out


def _jars() -> Path:
    given = os.environ.get("KLAMM_KAFKA_JARS")
    if given:
        return Path(given)
    folder = Path.home() / ".cache" / "klamm" / "kafka-jars" / kafka_version()
    if not folder.exists():
        _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise NoKafkaToolsError("Kafka's jars are not there, and there is no Maven to bring them")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        fetched = folder.with_suffix(".new")
        shutil.rmtree(fetched, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-f", str(POM), COPY, f"-DoutputDirectory={fetched}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired as error:
            raise NoKafkaToolsError(f"Maven did not bring Kafka's jars within {MAVEN_SECONDS_MAX} s") from error
        if done.returncode != 0:
            raise NoKafkaToolsError(f"Maven does not bring Kafka's jars: {(done.stdout + done.stderr)[-300:]}")
        fetched.rename(folder)
