"""Admin and AsyncAdmin: topics, configurations, leaders, replicas, groups. Names follow kafka-python's admin client.

Any broker takes any of these calls and passes it on to the active controller. A call is tried again at another broker
where one cannot be reached. What cannot be done raises the KafkaError that the cluster answered with, and names what it
is about.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from ..proto import broker_pb2 as pb
from ..proto import command_pb2 as cmd
from ..proto.errors import ErrorCode, IllegalStateError, KafkaError, error_for
from ..proto.identifiers import TopicPartition
from .cluster_client import ClusterClient
from .config import admin_config
from .group_admin import AsyncGroupAdmin, GroupAdmin
from .loop_thread import loop_thread
from .metadata_cache import broker_info, partition_info
from .quorum import quorum_info
from .structs import (
    ClusterInfo,
    ConfigEntry,
    ConfigResource,
    CreatedTopic,
    NewPartitions,
    NewTopic,
    Reassignment,
    TopicInfo,
)

Result = TypeVar("Result")
Partition = TopicPartition | tuple[str, int]

_READS: Final = frozenset({"GetMetadata", "DescribeCluster", "DescribeConfigs", "ListPartitionReassignments"})
_READ_ATTEMPT_MS: Final = 3000
_CALL_MARGIN_MS: Final = 2000
"""What a broker's own time-out gets on top, so that its answer, which says more, comes before ours."""


class AsyncAdmin(AsyncGroupAdmin):
    """The administration client for asyncio; bound to the loop that first uses it."""

    def __init__(self, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong."""
        self._config = admin_config(arguments)
        self._cluster: ClusterClient | None = None
        self._closed = False

    async def create_topics(
        self, new_topics: Iterable[NewTopic], timeout_ms: int | None = None, validate_only: bool = False
    ) -> list[CreatedTopic]:
        """Creates topics; returns once the broker that was asked has them.

        :raises TopicAlreadyExistsError, InvalidTopicError, InvalidReplicationFactorError, ...: the first that failed;
            the others may have been created.
        """
        command = cmd.CreateTopicsCommand(
            topics=[_creatable(topic) for topic in new_topics], validate_only=validate_only
        )
        response = await self._call("CreateTopics", pb.CreateTopicsRequest(command=command), timeout_ms)
        _raise_first((topic.name, topic) for topic in response.result.topics)
        return [_created(topic) for topic in response.result.topics]

    async def delete_topics(self, topics: Iterable[str], timeout_ms: int | None = None) -> None:
        """Deletes topics with all they hold. :raises UnknownTopicOrPartitionError: there is no such topic."""
        command = cmd.DeleteTopicsCommand(topics=[cmd.TopicReference(name=name) for name in topics])
        response = await self._call("DeleteTopics", pb.DeleteTopicsRequest(command=command), timeout_ms)
        _raise_first((topic.name, topic) for topic in response.result.topics)

    async def create_partitions(
        self,
        topic_partitions: Mapping[str, NewPartitions | int],
        timeout_ms: int | None = None,
        validate_only: bool = False,
    ) -> None:
        """Raises topics' numbers of partitions. Keys land elsewhere afterwards. :raises InvalidPartitionsError:"""
        command = cmd.CreatePartitionsCommand(validate_only=validate_only)
        for name, wanted in topic_partitions.items():
            new = NewPartitions(wanted) if isinstance(wanted, int) else wanted
            command.topics.append(
                cmd.CreatePartitionsTopic(
                    name=name,
                    count=new.total_count,
                    assignments=[cmd.ReplicaAssignment(broker_ids=ids) for ids in new.new_assignments],
                )
            )
        response = await self._call("CreatePartitions", pb.CreatePartitionsRequest(command=command), timeout_ms)
        _raise_first((topic.name, topic) for topic in response.result.topics)

    async def list_topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return sorted(topic.name for topic in (await self._metadata(None)).topics)

    async def describe_topics(self, topics: Iterable[str] | None = None) -> list[TopicInfo]:
        """Topics with their partitions; all of them by default. :raises UnknownTopicOrPartitionError: no such topic."""
        names = None if topics is None else list(topics)
        response = await self._metadata(names)
        described = []
        for topic in sorted(response.topics, key=lambda entry: entry.name):
            code = ErrorCode.of(topic.error_code)
            if code is not ErrorCode.NONE:
                raise error_for(code, f"topic {topic.name!r}: {code.message}")
            partitions = sorted(topic.partitions, key=lambda entry: entry.partition)
            infos = tuple(partition_info(topic.name, entry) for entry in partitions)
            described.append(TopicInfo(topic.name, UUID(bytes=topic.topic_id), topic.is_internal, infos))
        return described

    async def describe_cluster(self) -> ClusterInfo:
        """Every broker, fenced ones too, and the metadata quorum."""
        response = await self._call("DescribeCluster", pb.DescribeClusterRequest(), None)
        quorum = quorum_info(response.quorum) if response.HasField("quorum") else None
        return ClusterInfo(
            cluster_id=response.cluster_id,
            controller_id=quorum.active_controller_id if quorum is not None else None,
            brokers=tuple(sorted(broker_info(broker) for broker in response.brokers)),
            quorum=quorum,
            metadata_end_offset=response.metadata_end_offset,
        )

    async def describe_configs(
        self, config_resources: Iterable[ConfigResource]
    ) -> dict[ConfigResource, list[ConfigEntry]]:
        """The configuration in force and where each value comes from. :raises KafkaError: no such topic or broker."""
        wanted = list(config_resources)
        request = pb.DescribeConfigsRequest(
            resources=[
                pb.ConfigResource(
                    resource_type=int(resource.resource_type),  # type: ignore[arg-type]
                    resource_name=resource.name,
                    keys=list(resource.configs),
                )
                for resource in wanted
            ]
        )
        response = await self._call("DescribeConfigs", request, None)
        _raise_first((answer.resource_name, answer) for answer in response.resources)
        return {
            resource: [
                ConfigEntry(entry.name, entry.value, entry.source, entry.read_only, entry.documentation, entry.type)
                for entry in answer.configs
            ]
            for resource, answer in zip(wanted, response.resources, strict=True)
        }

    async def alter_configs(
        self,
        config_resources: Iterable[ConfigResource],
        timeout_ms: int | None = None,
        validate_only: bool = False,
    ) -> None:
        """Sets the keys given and leaves the others (KIP-339); None as a value goes back to the default.

        :raises InvalidConfigurationError: an unknown key or a value that does not fit it.
        """
        command = cmd.IncrementalAlterConfigsCommand(validate_only=validate_only)
        for resource in config_resources:
            entries = [
                cmd.AlterableConfig(name=key, operation=cmd.ALTER_CONFIG_DELETE)
                if value is None
                else cmd.AlterableConfig(name=key, operation=cmd.ALTER_CONFIG_SET, value=value)
                for key, value in resource.configs.items()
            ]
            command.resources.append(
                cmd.AlterConfigsResource(
                    resource_type=int(resource.resource_type),  # type: ignore[arg-type]
                    resource_name=resource.name,
                    configs=entries,
                )
            )
        request = pb.IncrementalAlterConfigsRequest(command=command)
        response = await self._call("IncrementalAlterConfigs", request, timeout_ms)
        _raise_first((answer.resource_name, answer) for answer in response.result.resources)

    async def elect_leaders(
        self,
        partitions: Collection[Partition] | None = None,
        *,
        unclean: bool = False,
        timeout_ms: int | None = None,
    ) -> dict[TopicPartition, KafkaError | None]:
        """Makes the preferred replica lead again, everywhere by default; says for each what came of it.

        `unclean=True` lets a replica lead that may lack acknowledged records, where no other is left.
        """
        command = cmd.ElectLeadersCommand(
            election_type=cmd.ELECTION_UNCLEAN if unclean else cmd.ELECTION_PREFERRED,
            partitions=_references(partitions or ()),
            all_partitions=partitions is None,
        )
        response = await self._call("ElectLeaders", pb.ElectLeadersRequest(command=command), timeout_ms)
        return _outcomes(response.result.partitions)

    async def alter_partition_reassignments(
        self, reassignments: Mapping[Partition, Sequence[int] | None], timeout_ms: int | None = None
    ) -> None:
        """Moves partitions to other brokers (KIP-455); None takes a move under way back. Returns before it is done."""
        command = cmd.AlterPartitionReassignmentsCommand()
        for (topic, partition), replicas in reassignments.items():
            command.partitions.append(
                cmd.ReassignablePartition(
                    topic=topic, partition=partition, replicas=replicas or (), cancel=replicas is None
                )
            )
        request = pb.AlterPartitionReassignmentsRequest(command=command)
        response = await self._call("AlterPartitionReassignments", request, timeout_ms)
        _raise_first((f"{entry.topic}-{entry.partition}", entry) for entry in response.result.partitions)

    async def list_partition_reassignments(
        self, partitions: Collection[Partition] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """The moves under way, of all partitions by default."""
        request = pb.ListPartitionReassignmentsRequest(partitions=_references(partitions or ()))
        response = await self._call("ListPartitionReassignments", request, None)
        found = {}
        for entry in response.reassignments:
            topic_partition = TopicPartition(entry.topic, entry.partition)
            found[topic_partition] = Reassignment(
                topic_partition, tuple(entry.replicas), tuple(entry.adding_replicas), tuple(entry.removing_replicas)
            )
        return found

    async def unregister_broker(self, broker_id: int, timeout_ms: int | None = None) -> None:
        """Forgets a broker that will not come back. :raises KafkaError: it is alive, or not known."""
        response = await self._call("UnregisterBroker", pb.UnregisterBrokerRequest(broker_id=broker_id), timeout_ms)
        _raise_first([(f"broker {broker_id}", response)])

    async def check_connection(self) -> None:
        """:raises NodeNotReadyError: no broker answers; says which were asked."""
        await self._client().refresh()

    async def close(self) -> None:
        """Closes the connections. Again: does nothing."""
        self._closed = True
        if self._cluster is not None:
            cluster, self._cluster = self._cluster, None
            await cluster.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _metadata(self, names: list[str] | None) -> pb.MetadataResponse:
        request = pb.MetadataRequest(topics=names or (), all_topics=names is None)
        response: pb.MetadataResponse = await self._call("GetMetadata", request, None)
        return response

    async def _call(self, name: str, request: Any, timeout_ms: int | None) -> Any:
        timeout_ms = self._config.request_timeout_ms if timeout_ms is None else timeout_ms
        if hasattr(request, "timeout_ms"):
            request.timeout_ms = timeout_ms
        # What changes nothing may be asked of a second broker when the first is slow.
        attempt_ms = _READ_ATTEMPT_MS if name in _READS else None
        return await self._client().call_any(name, request, timeout_ms + _CALL_MARGIN_MS, attempt_ms=attempt_ms)

    def _client(self) -> ClusterClient:
        if self._closed:
            raise IllegalStateError("the admin client is closed")
        if self._cluster is None:
            self._cluster = ClusterClient(self._config)
        return self._cluster


class Admin(GroupAdmin):
    """The administration client for threads; each method is AsyncAdmin's of the same name, awaited."""

    def __init__(self, **arguments: Any) -> None:
        """:raises KafkaConfigurationError: names the argument that is wrong."""
        self._admin: AsyncAdmin = AsyncAdmin(**arguments)
        self._thread = loop_thread()

    def create_topics(
        self, new_topics: Iterable[NewTopic], timeout_ms: int | None = None, validate_only: bool = False
    ) -> list[CreatedTopic]:
        """As `AsyncAdmin.create_topics`."""
        return self._run(self._admin.create_topics(new_topics, timeout_ms, validate_only))

    def delete_topics(self, topics: Iterable[str], timeout_ms: int | None = None) -> None:
        """As `AsyncAdmin.delete_topics`."""
        self._run(self._admin.delete_topics(topics, timeout_ms))

    def create_partitions(
        self,
        topic_partitions: Mapping[str, NewPartitions | int],
        timeout_ms: int | None = None,
        validate_only: bool = False,
    ) -> None:
        """As `AsyncAdmin.create_partitions`."""
        self._run(self._admin.create_partitions(topic_partitions, timeout_ms, validate_only))

    def list_topics(self) -> list[str]:
        """As `AsyncAdmin.list_topics`."""
        return self._run(self._admin.list_topics())

    def describe_topics(self, topics: Iterable[str] | None = None) -> list[TopicInfo]:
        """As `AsyncAdmin.describe_topics`."""
        return self._run(self._admin.describe_topics(topics))

    def describe_cluster(self) -> ClusterInfo:
        """As `AsyncAdmin.describe_cluster`."""
        return self._run(self._admin.describe_cluster())

    def describe_configs(self, config_resources: Iterable[ConfigResource]) -> dict[ConfigResource, list[ConfigEntry]]:
        """As `AsyncAdmin.describe_configs`."""
        return self._run(self._admin.describe_configs(config_resources))

    def alter_configs(
        self, config_resources: Iterable[ConfigResource], timeout_ms: int | None = None, validate_only: bool = False
    ) -> None:
        """As `AsyncAdmin.alter_configs`."""
        self._run(self._admin.alter_configs(config_resources, timeout_ms, validate_only))

    def elect_leaders(
        self,
        partitions: Collection[Partition] | None = None,
        *,
        unclean: bool = False,
        timeout_ms: int | None = None,
    ) -> dict[TopicPartition, KafkaError | None]:
        """As `AsyncAdmin.elect_leaders`."""
        return self._run(self._admin.elect_leaders(partitions, unclean=unclean, timeout_ms=timeout_ms))

    def alter_partition_reassignments(
        self, reassignments: Mapping[Partition, Sequence[int] | None], timeout_ms: int | None = None
    ) -> None:
        """As `AsyncAdmin.alter_partition_reassignments`."""
        self._run(self._admin.alter_partition_reassignments(reassignments, timeout_ms))

    def list_partition_reassignments(
        self, partitions: Collection[Partition] | None = None
    ) -> dict[TopicPartition, Reassignment]:
        """As `AsyncAdmin.list_partition_reassignments`."""
        return self._run(self._admin.list_partition_reassignments(partitions))

    def unregister_broker(self, broker_id: int, timeout_ms: int | None = None) -> None:
        """As `AsyncAdmin.unregister_broker`."""
        self._run(self._admin.unregister_broker(broker_id, timeout_ms))

    def check_connection(self) -> None:
        """As `AsyncAdmin.check_connection`."""
        self._run(self._admin.check_connection())

    def close(self) -> None:
        """As `AsyncAdmin.close`."""
        self._run(self._admin.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self._thread.run(coroutine)


def _creatable(topic: NewTopic) -> cmd.CreatableTopic:
    assigned = bool(topic.replica_assignments)
    return cmd.CreatableTopic(
        name=topic.name,
        num_partitions=-1 if assigned else topic.num_partitions,
        replication_factor=-1 if assigned else topic.replication_factor,
        assignments=[
            cmd.ReplicaAssignment(partition=partition, broker_ids=ids)
            for partition, ids in sorted(topic.replica_assignments.items())
        ],
        configs=dict(topic.topic_configs),
    )


def _created(topic: cmd.CreatedTopic) -> CreatedTopic:
    topic_id = UUID(bytes=topic.topic_id) if len(topic.topic_id) == 16 else None
    return CreatedTopic(topic.name, topic_id, topic.num_partitions, topic.replication_factor)


def _references(partitions: Iterable[Partition]) -> list[cmd.TopicPartitionReference]:
    return [cmd.TopicPartitionReference(topic=topic, partition=partition) for topic, partition in partitions]


def _outcomes(partitions: Iterable[cmd.PartitionOutcome]) -> dict[TopicPartition, KafkaError | None]:
    return {
        TopicPartition(entry.topic, entry.partition): (
            error_for(entry.error_code, entry.error_message) if entry.error_code else None
        )
        for entry in partitions
    }


def _raise_first(outcomes: Iterable[tuple[str, Any]]) -> None:
    for name, outcome in outcomes:
        if outcome.error_code:
            code = ErrorCode.of(outcome.error_code)
            message = outcome.error_message or code.message
            raise error_for(code, message if repr(name) in message else f"{name}: {message}")
