"""ApiVersions says what the table says, and which features there are."""

from __future__ import annotations

import pytest
from harness.kafka_rooms import Rooms, versions_of
from harness.metadata_cluster import MetadataCluster
from kio.schema.errors import ErrorCode
from klamm.broker.kafka.table import APIS


def rooms() -> Rooms:
    cluster = MetadataCluster()
    cluster.become_controller()
    return Rooms(cluster)


@pytest.mark.parametrize("version", versions_of("api_versions"))
def test_all_that_is_served_and_no_more(version: int) -> None:
    asked = rooms()
    answer = asked.ask("api_versions", version, client_software_name="librdkafka", client_software_version="2.16.1")
    assert answer.error_code is ErrorCode.none
    assert [(api.api_key, api.min_version, api.max_version) for api in answer.api_keys] == [
        (api.key, 0 if api.name == "produce" else api.min_version, api.max_version) for api in APIS.values()
    ]
    if version >= 3:
        supported = [(feature.name, feature.min_version, feature.max_version) for feature in answer.supported_features]
        assert supported == ([("group.version", 0, 1)] if version >= 4 else [])
        [finalized] = answer.finalized_features
        assert (finalized.name, finalized.min_version_level, finalized.max_version_level) == ("group.version", 1, 1)
        assert answer.finalized_features_epoch == asked.image.end_offset


@pytest.mark.parametrize(
    "software", [("", "1"), ("a", ""), ("-a", "1"), ("a-", "1"), ("a b", "1"), ("a", "1\n"), ("a", "1."), ("a", "1/2")]
)
@pytest.mark.parametrize("version", [3, 4])
def test_the_clients_software_has_a_name_and_a_version(version: int, software: tuple[str, str]) -> None:
    answer = rooms().ask("api_versions", version, client_software_name=software[0], client_software_version=software[1])
    assert answer.error_code is ErrorCode.invalid_request
    assert answer.api_keys == () and answer.finalized_features_epoch == -1
