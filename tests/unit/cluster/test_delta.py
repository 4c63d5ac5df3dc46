"""What changed from one image to the next, and what one broker has to do because of it."""

from __future__ import annotations

from harness.metadata_cluster import cluster_of
from klamm.cluster.delta import BrokerDelta, LocalPartition, MetadataDelta
from klamm.cluster.image import MetadataImage
from klamm.proto.identifiers import BrokerId


def test_nothing_changed() -> None:
    image = cluster_of(1).image
    delta = MetadataDelta.between(image, image)
    assert delta == MetadataDelta((), (), (), (), False)
    assert delta.for_broker(BrokerId(1)).empty


def test_a_new_topic_is_led_by_one_and_followed_by_others() -> None:
    cluster = cluster_of(1, 2, 3)
    before = cluster.image
    cluster.create_topic("a", assignments=[[1, 2], [2, 1]])
    delta = MetadataDelta.between(before, cluster.image)
    topic = cluster.image.topics["a"]
    assert delta.topics_created == (topic,)
    assert [(change.old, change.new) for change in delta.partitions_changed] == [
        (None, partition) for partition in topic.partitions
    ]
    assert delta.configs_changed == ()
    assert not delta.brokers_changed
    assert delta.for_broker(BrokerId(1)) == BrokerDelta(
        to_lead=(LocalPartition(topic, topic.partitions[0]),),
        to_follow=(LocalPartition(topic, topic.partitions[1]),),
        to_remove_deleted=(),
        to_remove_reassigned=(),
    )
    assert delta.for_broker(BrokerId(3)).empty


def test_a_dead_leaders_partitions_change_and_others_do_not() -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.create_topic("a", assignments=[[1, 2], [2, 3], [1, 4]])
    cluster.fence(4)
    before = cluster.image
    cluster.fence(1)
    delta = MetadataDelta.between(before, cluster.image)
    topic = cluster.image.topics["a"]
    assert delta.brokers_changed
    assert [change.new.partition for change in delta.partitions_changed] == [0, 2]
    assert delta.for_broker(BrokerId(2)).to_lead == (LocalPartition(topic, topic.partitions[0]),)
    assert [local.partition.leader for local in delta.for_broker(BrokerId(1)).to_follow] == [2, None]


def test_a_topic_made_anew_under_its_name_is_deleted_and_created() -> None:
    cluster = cluster_of(1, 2)
    cluster.create_topic("a", assignments=[[1]])
    before = cluster.image
    cluster.delete_topic("a")
    cluster.create_topic("a", assignments=[[1], [2]], retention_ms="5")
    delta = MetadataDelta.between(before, cluster.image)
    assert delta.topics_deleted == (before.topics["a"],)
    assert delta.topics_created == (cluster.image.topics["a"],)
    assert delta.configs_changed == ()
    mine = delta.for_broker(BrokerId(1))
    assert [local.topic_id_partition for local in mine.to_remove_deleted] == [(before.topics["a"].topic_id, 0)]
    assert [local.topic_id_partition for local in mine.to_lead] == [(cluster.image.topics["a"].topic_id, 0)]


def test_a_replica_that_was_reassigned_away_is_removed() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.create_topic("a", assignments=[[1, 2]])
    cluster.reassign("a", 0, [2])
    image = cluster.image
    before = MetadataImage.empty()
    assert MetadataDelta.between(before, image).for_broker(BrokerId(1)).empty
    cluster.reassign("a", 0, [2, 3])
    cluster.alter_isr("a", 0, [2, 3])
    before = cluster.image
    cluster.reassign("a", 0, [3])
    delta = MetadataDelta.between(before, cluster.image).for_broker(BrokerId(2))
    assert [local.partition.replicas for local in delta.to_remove_reassigned] == [(3,)]
    assert delta.to_lead == delta.to_follow == ()


def test_settings_of_one_topic_or_of_all() -> None:
    cluster = cluster_of(1)
    for name in ("a", "b"):
        cluster.create_topic(name, 1, 1)
    before = cluster.image
    cluster.configure("a", retention_ms="5")
    assert MetadataDelta.between(before, cluster.image).configs_changed == ("a",)
    cluster.configure(None, log_retention_ms="6")
    assert MetadataDelta.between(before, cluster.image).configs_changed == ("a", "b")


def test_more_partitions_of_a_known_topic_have_no_old_one() -> None:
    cluster = cluster_of(1)
    cluster.create_topic("a", 1, 1)
    before = cluster.image
    cluster.add_partitions("a", 3)
    delta = MetadataDelta.between(before, cluster.image)
    assert delta.topics_created == ()
    assert [(change.old, change.new.partition) for change in delta.partitions_changed] == [(None, 1), (None, 2)]
