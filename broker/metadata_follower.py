"""Follows the metadata log: replays its records into the next immutable image and has the broker act on it.

Two tasks share the work. One reads the stream of the active controller and replays; it resumes at its offset after a
break, drops what it has seen already, and takes a snapshot as a whole image in one step. The other hands each new
image to the broker, one at a time and in order; what was committed while the broker was busy comes as one step.
`image` is always one that the broker has acted on (rule 20 counts from there).

A broker that starts does not act on the images of its past, in which it led what others lead now, or held no replica of
what it holds again: the first one that it acts on has its own registration.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import grpc.aio

from ..cluster.image import MetadataImage
from ..proto.controller_pb2 import FollowMetadataRequest
from ..proto.errors import ErrorCode, InconsistentClusterIdError, KafkaError
from ..proto.identifiers import BrokerId
from ..proto.metadata_pb2 import MetadataBatch
from .controller_client import ActiveController, ControllerClient, ControllerReplacedError, end, jittered

logger = logging.getLogger(__name__)

RETRY_PAUSE_MS: Final = 20
RETRY_PAUSE_MS_MAX: Final = 500
ERROR_CODE_KEY: Final = "klamm-error-code"


class MetadataGapError(KafkaError):
    """A controller skipped records: the image cannot be built from what it sent."""


class MetadataFollower:
    """Lives on one event loop."""

    def __init__(
        self,
        controller_client: ControllerClient,
        on_image: Callable[[MetadataImage, MetadataImage], Awaitable[None]],
        *,
        broker_id: BrokerId,
        on_fatal: Callable[[Exception], None],
        cluster_id: str | None = None,
    ) -> None:
        """`on_image(old, new)` acts on a change; if it raises, the broker no longer matches its metadata and
        `on_fatal` is told, as it is when the controllers belong to another cluster than `cluster_id`."""
        self._client = controller_client
        self._on_image = on_image
        self._on_fatal = on_fatal
        self._broker_id = broker_id
        self._cluster_id = cluster_id
        self._replayed = MetadataImage.empty()  # ahead of _applied while the broker acts
        self._applied = self._replayed
        self._snapshot: MetadataImage | None = None  # being received
        self._partial: MetadataImage | None = None  # ends within a command that is being received
        self._listeners: list[Callable[[MetadataImage], None]] = []
        self._replayed_more = asyncio.Event()
        self._applied_more = asyncio.Event()
        self._act_from = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def image(self) -> MetadataImage:
        """The latest image that the broker has acted on."""
        return self._applied

    def add_listener(self, listener: Callable[[MetadataImage], None]) -> None:
        """`listener(image)` is called each time the broker has acted on an image."""
        self._listeners.append(listener)

    async def start(self, act_from: int = 0) -> None:
        """Begins to follow; the broker acts on the first image that has all records below `act_from`."""
        self._act_from = act_from
        self._task = asyncio.create_task(self._run(), name="metadata-follower")

    async def stop(self) -> None:
        """Stops; the image stays as it is."""
        if self._task is not None:
            await end(self._task)

    async def wait_for(self, end_offset: int, timeout_ms: int) -> bool:
        """True once the broker has acted on every record below `end_offset`; False if that takes longer."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while self._applied.end_offset < end_offset:
                    await self._applied_more.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._apply())
        except ExceptionGroup as errors:
            for error in errors.exceptions:
                logger.error("metadata_follower_failed end_offset=%d", self._applied.end_offset, exc_info=error)
            self._on_fatal(errors.exceptions[0])

    async def _apply(self) -> None:
        while True:
            old, new = self._applied, self._replayed
            if new is old or new.end_offset < self._act_from:
                await self._replayed_more.wait()
                continue
            await self._on_image(old, new)
            self._applied = new
            self._applied_more.set()
            self._applied_more.clear()
            for listener in self._listeners:
                listener(new)

    async def _follow(self) -> None:
        pause_ms = RETRY_PAUSE_MS
        while True:
            active = await self._client.active()
            before = self._replayed.end_offset
            try:
                await self._client.while_active(active, self._read_stream(active))
                self._client.report_failure(active, "the metadata stream ended")
            except ControllerReplacedError:
                continue
            except MetadataGapError as error:
                logger.error("metadata_gap controller=%d error=%s", active.controller_id, error)
            except grpc.aio.AioRpcError as error:
                self._stream_failed(active, error)
            pause_ms = RETRY_PAUSE_MS if self._replayed.end_offset > before else min(pause_ms * 2, RETRY_PAUSE_MS_MAX)
            await asyncio.sleep(jittered(pause_ms) / 1000)

    def _stream_failed(self, active: ActiveController, error: grpc.aio.AioRpcError) -> None:
        trailing = dict(error.trailing_metadata() or ())
        if trailing.get(ERROR_CODE_KEY) == str(int(ErrorCode.INCONSISTENT_CLUSTER_ID)):
            raise InconsistentClusterIdError(error.details())
        logger.info(
            "metadata_stream_broken controller=%d epoch=%d end_offset=%d status=%s error=%s",
            active.controller_id,
            active.controller_epoch,
            self._replayed.end_offset,
            error.code().name,
            error.details(),
        )
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            self._client.report_failure(active, "the metadata stream broke")

    async def _read_stream(self, active: ActiveController) -> None:
        self._snapshot = self._partial = None
        cluster_id = self._replayed.cluster_id or self._cluster_id or ""
        request = FollowMetadataRequest(
            broker_id=self._broker_id, next_offset=self._replayed.end_offset, cluster_id=cluster_id
        )
        call = active.link.stub.FollowMetadata(request)
        try:
            async for batch in call:
                if batch.is_snapshot:
                    self._take_snapshot(batch)
                else:
                    self._take_records(batch)
        finally:
            call.cancel()

    def _take_records(self, batch: MetadataBatch) -> None:
        known = self._replayed if self._partial is None else self._partial
        end_offset = known.end_offset
        if batch.base_offset > end_offset:
            raise MetadataGapError(f"records from {batch.base_offset} on were sent, {end_offset} was next")
        if batch.end_offset <= end_offset:
            return
        records = batch.records[end_offset - batch.base_offset :]
        image = known.replay(records, batch.end_offset)
        if batch.mid_command:
            self._partial = image
            return
        self._partial = None
        self._publish(image)

    def _take_snapshot(self, batch: MetadataBatch) -> None:
        building = self._snapshot if self._snapshot is not None else MetadataImage.empty()
        building = building.replay(batch.records, batch.end_offset)
        if not batch.last_of_snapshot:
            self._snapshot = building
            return
        self._snapshot = None
        # A controller that is behind may send an older one: metadata never goes back.
        if building.end_offset > self._replayed.end_offset:
            logger.info("metadata_snapshot_loaded end_offset=%d", building.end_offset)
            self._publish(building)

    def _publish(self, image: MetadataImage) -> None:
        self._replayed = image
        self._replayed_more.set()
        self._replayed_more.clear()
