from __future__ import annotations

from uuid import UUID

from klamm.client.partition_queue import KNOWN_MS, PRODUCER_EPOCH_MAX, SEQUENCE_MASK, SERIAL_SPAN, PartitionQueue
from klamm.client.producer_batch import ProducerBatch
from klamm.proto.identifiers import TopicPartition

PARTITION = TopicPartition("orders", 0)
TOPIC_ID = UUID(int=1)


def queue_of(batches: int, *, idempotent: bool = True, records: int = 10) -> tuple[PartitionQueue, list[ProducerBatch]]:
    """A queue with so many batches, whose leader has seen its producer id before."""
    queue = new_queue(idempotent=idempotent)
    queue.waiting.append(ProducerBatch(PARTITION, None, queue.new_serial(), 0))
    first = queue.take()
    assert first is not None
    queue.acked(first, 0)
    return queue, fill(queue, batches, records)


def new_queue(*, idempotent: bool = True) -> PartitionQueue:
    queue = PartitionQueue(PARTITION, max_in_flight=5, idempotent=idempotent)
    queue.adopt_producer_id(7, 0)
    queue.send_to(1, TOPIC_ID, 0)
    return queue


def fill(queue: PartitionQueue, batches: int, records: int = 10) -> list[ProducerBatch]:
    made = []
    for _ in range(batches):
        batch = ProducerBatch(PARTITION, None, queue.new_serial(), 0)
        batch.span = SERIAL_SPAN
        batch.record_count = records
        queue.waiting.append(batch)
        made.append(batch)
    return made


def send_all(queue: PartitionQueue, now_ms: int = 0) -> list[ProducerBatch]:
    sent = []
    while queue.may_send(now_ms):
        batch = queue.take()
        assert batch is not None
        sent.append(batch)
    return sent


def test_rule_17_sequences_follow_one_another_and_wrap() -> None:
    queue, batches = queue_of(3)
    queue.next_sequence = SEQUENCE_MASK - 4
    assert send_all(queue) == batches
    assert [batch.base_sequence for batch in batches] == [SEQUENCE_MASK - 4, 5, 15]


def test_no_more_than_five_in_flight() -> None:
    queue, batches = queue_of(7)
    assert send_all(queue) == batches[:5]
    queue.acked(batches[0], 0)
    assert send_all(queue) == [batches[5]]


def test_rule_17_what_is_acked_out_of_turn_still_counts() -> None:
    # A leader knows the last five batches again: were a sixth sent after one whose answer is late, and then the
    # connection broken, the late one's retry would be refused as out of order and written once more in a new epoch.
    queue, batches = queue_of(7)
    assert send_all(queue) == batches[:5]
    for batch in batches[1:5]:
        queue.acked(batch, 0)
    assert send_all(queue) == []
    queue.retry(batches[0], outcome_known=False, retry_at_ms=0)
    assert send_all(queue) == batches[:1]
    queue.acked(batches[0], 0)
    assert send_all(queue) == batches[5:]


def test_the_first_batch_of_a_producer_id_goes_alone_until_it_is_written() -> None:
    # The leader takes any sequence from a producer id that is new to it: the second batch must not be the first there.
    queue = new_queue()
    batches = fill(queue, 3)
    assert send_all(queue) == batches[:1]
    queue.retry(batches[0], outcome_known=True, retry_at_ms=0)
    assert send_all(queue) == batches[:1]
    queue.failed(batches[0])
    assert send_all(queue) == [batches[1]]
    assert (batches[1].producer_epoch, batches[1].base_sequence) == (1, 0)
    queue.acked(batches[1], 0)
    assert send_all(queue) == [batches[2]]
    queue.adopt_producer_id(8, 0)
    assert len(fill(queue, 2)) == 2
    assert not queue.may_send(0)


def test_rule_17_a_leader_that_was_not_heard_of_for_long_may_have_forgotten_the_producer_id() -> None:
    # Then the second batch, taken with any sequence while the first is refused, would change places with it.
    queue, batches = queue_of(3)
    assert send_all(queue, KNOWN_MS + 1) == batches[:1]
    queue.acked(batches[0], KNOWN_MS + 1)
    assert send_all(queue, KNOWN_MS + 1) == batches[1:]


def test_rule_17_a_topic_made_anew_and_a_new_leader_may_not_know_the_producer_id() -> None:
    for topic_id, leader_epoch in ((UUID(int=2), 0), (TOPIC_ID, 1)):
        queue, batches = queue_of(3)
        queue.send_to(1, topic_id, leader_epoch)
        assert send_all(queue) == batches[:1]
        queue.retry(batches[0], outcome_known=True, retry_at_ms=0)
        assert send_all(queue) == batches[:1]
        queue.acked(batches[0], 0)
        queue.send_to(1, topic_id, leader_epoch)
        assert send_all(queue) == batches[1:]


def test_rule_16_an_unknown_outcome_is_retried_with_the_same_sequence() -> None:
    queue, batches = queue_of(3)
    send_all(queue)
    for batch in batches:
        queue.retry(batch, outcome_known=False, retry_at_ms=0)
    assert send_all(queue) == batches
    assert [(batch.producer_epoch, batch.base_sequence) for batch in batches] == [(0, 0), (0, 10), (0, 20)]


def test_a_retry_waits_for_the_answers_under_way_and_keeps_the_order() -> None:
    queue, batches = queue_of(4)
    send_all(queue)
    queue.retry(batches[2], outcome_known=True, retry_at_ms=0)
    assert not queue.may_send(0)
    queue.retry(batches[0], outcome_known=True, retry_at_ms=0)
    queue.acked(batches[3], 0)
    assert not queue.may_send(0)
    queue.retry(batches[1], outcome_known=True, retry_at_ms=0)
    assert send_all(queue) == batches[:3]


def test_a_retry_waits_for_its_time() -> None:
    queue, batches = queue_of(1)
    send_all(queue)
    queue.retry(batches[0], outcome_known=True, retry_at_ms=20)
    assert not queue.may_send(19)
    assert queue.may_send(20)


def test_out_of_order_behind_a_failed_batch_goes_again_as_it_is() -> None:
    queue, batches = queue_of(2)
    send_all(queue)
    queue.retry(batches[0], outcome_known=True, retry_at_ms=0)
    queue.out_of_order(batches[1], 0)
    assert send_all(queue) == batches
    assert [(batch.producer_epoch, batch.base_sequence) for batch in batches] == [(0, 0), (0, 10)]


def test_out_of_order_does_not_cut_short_the_wait_of_the_batch_before() -> None:
    # A leader whose disk is full refuses the first, and so the second: else both would go again at once, for ever.
    queue, batches = queue_of(2)
    send_all(queue)
    queue.retry(batches[0], outcome_known=False, retry_at_ms=100)
    queue.out_of_order(batches[1], 0)
    assert not queue.may_send(99)
    assert send_all(queue, 100) == batches


def test_kip_360_out_of_order_at_the_head_starts_a_new_epoch() -> None:
    queue, batches = queue_of(3)
    first, second, third = batches
    assert queue.take() is first
    queue.acked(first, 0)
    assert queue.take() is second
    queue.out_of_order(second, 0)
    assert send_all(queue) == [second, third]
    assert [(batch.producer_epoch, batch.base_sequence) for batch in (second, third)] == [(1, 0), (1, 10)]


def test_rule_17_a_lost_batch_ends_the_epoch_once_all_sent_after_it_is_known_to_be_unwritten() -> None:
    queue, batches = queue_of(3)
    lost, sent, unsent = batches
    assert [queue.take(), queue.take()] == [lost, sent]
    queue.retry(sent, outcome_known=False, retry_at_ms=0)
    queue.failed(lost)
    assert queue.may_send(0)
    assert queue.take() is sent
    assert (sent.producer_epoch, sent.base_sequence) == (0, 10), "it may be in the log: the sequence must stay"
    assert not queue.may_send(0), "the new epoch must not begin before that is known"
    queue.out_of_order(sent, 0)
    assert send_all(queue) == [sent, unsent]
    assert [(batch.producer_epoch, batch.base_sequence) for batch in (sent, unsent)] == [(1, 0), (1, 10)]


def test_rule_17_a_lost_batch_that_was_written_after_all_changes_nothing() -> None:
    queue, (lost, sent, unsent) = queue_of(3)
    assert [queue.take(), queue.take()] == [lost, sent]
    queue.failed(lost)
    assert not queue.may_send(0)
    queue.acked(sent, 0)
    assert queue.take() is unsent
    assert (unsent.producer_epoch, unsent.base_sequence) == (0, 20)


def test_rule_17_what_an_earlier_leader_may_have_is_not_written_anew_under_a_later_one() -> None:
    # The later leader lacks it; but if that dies before the earlier one has cut its log, the earlier one leads again.
    queue, (lost, sent, behind) = queue_of(3)
    send_all(queue)
    for batch in (lost, sent, behind):
        queue.retry(batch, outcome_known=False, retry_at_ms=0)
    queue.failed(lost)
    queue.send_to(2, TOPIC_ID, 1)
    for batch in (sent, behind):
        assert queue.take() is batch
        assert (batch.producer_epoch, batch.maybe_appended) == (0, True)
        assert queue.out_of_order(batch, 0) is False
        queue.failed(batch)
    [new] = fill(queue, 1)
    assert queue.take() is new
    assert (new.producer_epoch, new.base_sequence) == (1, 0)


def test_rule_17_what_an_earlier_leader_may_have_goes_again_behind_what_is_not_decided() -> None:
    queue, (first, second) = queue_of(2)
    send_all(queue)
    for batch in (first, second):
        queue.retry(batch, outcome_known=False, retry_at_ms=0)
    queue.send_to(2, TOPIC_ID, 1)
    assert [queue.take(), queue.take()] == [first, second]
    queue.retry(first, outcome_known=True, retry_at_ms=0)
    assert queue.out_of_order(second, 0)
    assert [queue.take(), queue.take()] == [first, second]
    assert [(batch.producer_epoch, batch.base_sequence) for batch in (first, second)] == [(0, 0), (0, 10)]


def test_rule_17_what_was_taken_before_an_acked_batch_of_its_epoch_is_written() -> None:
    queue, (first, second, third) = queue_of(3)
    send_all(queue)
    queue.acked(second, 0)
    assert [queue.is_written(batch) for batch in (first, third)] == [True, False]
    queue.retry(third, outcome_known=False, retry_at_ms=0)
    queue.retry(first, outcome_known=False, retry_at_ms=0)
    queue.given_up_as_written(first)
    assert (list(queue.waiting), list(queue.in_flight)) == ([third], [])
    assert queue.take() is third
    assert (third.producer_epoch, third.base_sequence) == (0, 20), "there is no gap"


def test_what_was_refused_or_not_sent_or_has_another_epoch_is_not_taken_for_written() -> None:
    queue, (refused, unknown, acked, waiting) = queue_of(4)
    assert [queue.take(), queue.take(), queue.take()] == [refused, unknown, acked]
    queue.acked(acked, 0)
    queue.retry(refused, outcome_known=True, retry_at_ms=0)
    queue.retry(unknown, outcome_known=False, retry_at_ms=0)
    assert [queue.is_written(batch) for batch in (refused, unknown, waiting)] == [False, True, False]
    unknown.producer_epoch -= 1
    assert not queue.is_written(unknown)
    queue, (first, second) = queue_of(2, idempotent=False)
    send_all(queue)
    queue.acked(second, 0)
    assert not queue.is_written(first)


def test_an_earlier_success_does_not_close_a_later_gap() -> None:
    queue, (early, lost, unsent) = queue_of(3)
    assert [queue.take(), queue.take()] == [early, lost]
    queue.failed(lost)
    queue.acked(early, 0)
    assert queue.take() is unsent
    assert (unsent.producer_epoch, unsent.base_sequence) == (1, 0)


def test_a_batch_that_expires_unsent_leaves_no_gap() -> None:
    queue, (expired, unsent) = queue_of(2)
    queue.failed(expired)
    assert queue.take() is unsent
    assert (unsent.producer_epoch, unsent.base_sequence) == (0, 0)


def test_after_the_last_epoch_comes_another_producer_id() -> None:
    queue, (lost, unsent) = queue_of(2)
    queue.producer_epoch = PRODUCER_EPOCH_MAX
    assert queue.take() is lost
    queue.failed(lost)
    assert queue.take() is None
    assert queue.needs_producer_id and queue.spent_producer_id == 7
    queue.adopt_producer_id(8, 0)
    assert queue.take() is unsent
    assert (unsent.producer_id, unsent.producer_epoch, unsent.base_sequence) == (8, 0, 0)


def test_the_parts_of_a_split_batch_take_its_place_in_order() -> None:
    queue, (first, second, third) = queue_of(3)
    assert queue.take() is first
    parts = [ProducerBatch(PARTITION, None, 0, 0) for _ in range(2)]
    for part in parts:
        part.record_count = 5
    queue.replace(first, parts)
    smaller = [ProducerBatch(PARTITION, None, 0, 0) for _ in range(2)]
    sent = send_all(queue)
    assert sent == [*parts, second, third]
    assert [(batch.producer_epoch, batch.base_sequence) for batch in sent] == [(1, 0), (1, 5), (1, 10), (1, 20)]
    queue.replace(parts[0], smaller)
    for batch in (third, parts[1], second):
        queue.out_of_order(batch, 0)
    assert send_all(queue) == [*smaller, parts[1], second, third]


def test_without_idempotence_there_are_no_sequences_and_order_holds_all_the_same() -> None:
    queue, batches = queue_of(3, idempotent=False)
    send_all(queue)
    queue.retry(batches[1], outcome_known=False, retry_at_ms=0)
    queue.retry(batches[2], outcome_known=False, retry_at_ms=0)
    queue.acked(batches[0], 0)
    assert send_all(queue) == batches[1:]
    assert all(batch.base_sequence == -1 for batch in batches)
