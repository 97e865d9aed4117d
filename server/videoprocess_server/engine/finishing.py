"""From segments to finished files: videos joined and verified, pictures written, reports made. None is published yet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, GoOn
from videoprocess_server.engine import analysis
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.media_times import microseconds
from videoprocess_server.engine.outcome import Outcome, Verification, verification_of
from videoprocess_server.engine.products import Product
from videoprocess_server.engine.single_tasks import SingleTasks
from videoprocess_server.engine.source_guard import SourceGuard
from videoprocess_server.model.hdi import StreamIntent
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import Plan, Rendition
from videoprocess_server.model.records import Phase, SegmentRecord
from videoprocess_server.model.tasks import (
    JoinResult,
    JoinTask,
    MakerResult,
    MakerTask,
    StillsResult,
    StillsTask,
    StripResult,
    StripTask,
    Task,
    VerifyResult,
    VerifyTask,
)

#: FFmpeg's muxers of files that can hold our own track of timed metadata
_HOLDS_MAKER = frozenset({"mp4", "mov", "3gp"})
_MAKER_EXTENSION = ".mp4"
_REPORT_EXTENSION = ".json"
_STRIP_EXTENSION = ".jpg"


@dataclass(frozen=True)
class _Joined:
    """A video that is to be verified."""

    index: int
    result: JoinResult
    work_key: str


class Finishing:
    """Makes the files of one try.

    Args:
        plan_id: what their names begin with while they are nobody's.
        plan: of the results.
        media: of the file that pictures come from.
        segments: all of the plan, DONE.
        tasks: has the work done.
        guard: opens the sources.
        blobs: keeps the files.
        go_on: called while segments are brought.
    """

    def __init__(
        self,
        plan_id: str,
        plan: Plan,
        media: MediaInfo,
        segments: Sequence[SegmentRecord],
        tasks: SingleTasks,
        guard: SourceGuard,
        blobs: BlobStore,
        go_on: GoOn,
    ) -> None:
        self._plan_id = plan_id
        self._plan = plan
        self._media = media
        self._paths = tuple(str(blobs.bring(BlobKind.SEGMENT, row.path, go_on)) for row in segments)
        self._measures = tuple(row.measures for row in segments)
        self._tasks = tasks
        self._guard = guard
        self._blobs = blobs
        self._moving_count = sum(rendition.is_moving for rendition in plan.renditions)
        self._work_keys: list[str] = []

    def run(self) -> Outcome:
        """Make all files.

        Raises:
            StoppedError: the driver is to end.
            TaskFailedError, TaskStalledError, WorkerCrashedError, SourceChangedError: for good.
            SourceTouchedError: the sources are to be looked at again.
            BlobStoreFullError, OSError: the disk.
        """
        joined = [self._join(index) for index, made in enumerate(self._plan.renditions) if made.is_moving]
        pictures = {
            index: self._write_stills(index)
            for index, made in enumerate(self._plan.renditions)
            if not made.is_moving
        }
        makers = (
            [] if self._has_maker_inside() else [self._make_maker(id_) for id_ in self._plan.maker_stream_ids]
        )
        self._guard.check()
        verified = self._verify(joined)
        videos = {each.index: [self._video(each)] for each in joined}
        products = [
            file for index in range(len(self._plan.renditions)) for file in (videos | pictures)[index]
        ]
        outcome = Outcome(
            plan=self._plan,
            media=self._media,
            products=(*products, *makers),
            joins={each.index: each.result for each in joined},
            verifications=verified,
            measures=self._measures,
        )
        if self._plan.renditions:
            outcome = outcome.with_products(
                [self._compare(stream_id) for stream_id in self._plan.report_stream_ids]
            )
        return outcome.with_products(self._analyse(outcome, id_) for id_ in self._plan.report_stream_ids)

    def discard(self) -> None:
        """Delete what was not published."""
        for key in self._work_keys:
            self._blobs.delete(BlobKind.WORK, key)

    def _join(self, index: int) -> _Joined:
        made = self._plan.renditions[index]
        key = self._new_key(made.file_extension)

        def task() -> Task:
            return JoinTask(
                media=self._guard.companion_media,
                plan=self._plan,
                rendition_index=index,
                segment_paths=self._paths,
                output_path=self._fresh_path(key),
                maker=self._holds_maker(made),
            )

        number = sum(before.is_moving for before in self._plan.renditions[:index])
        frames = self._plan.frame_count
        result = self._tasks.run(
            Phase.JOIN,
            task,
            self._guard.open_companion,
            frames_total=frames * self._moving_count,
            frames_done=frames * number,
        )
        return _Joined(index, cast("JoinResult", result), key)

    def _verify(self, joined: Sequence[_Joined]) -> dict[int, Verification]:
        """Have the videos compared with plan and source, and with what their segments decode to, side by side."""
        if not joined:
            return {}
        plan = self._plan

        def verify(each: _Joined) -> Task:
            return VerifyTask(
                plan=plan,
                rendition_index=each.index,
                media=self._guard.companion_media,
                join=each.result,
                path=str(self._blobs.bring(BlobKind.WORK, each.work_key)),
            )

        results = self._tasks.run_all(
            Phase.VERIFY, [partial(verify, each) for each in joined], self._guard.open_companion
        )
        checked = [video for measures in self._measures if measures for video in measures.checked]
        return {
            each.index: verification_of(plan, each.index, checked, result)
            for each, result in zip(joined, cast("list[VerifyResult]", results), strict=True)
        }

    def _video(self, joined: _Joined) -> Product:
        made = self._plan.renditions[joined.index]
        return Product(
            work_key=joined.work_key,
            stream_id=made.stream_id,
            intent=made.intent,
            extension=made.file_extension,
            size_bytes=joined.result.size_bytes,
            sha256=joined.result.sha256,
        )

    def _write_stills(self, index: int) -> list[Product]:
        made = self._plan.renditions[index]
        times = made.still_pts or ()
        keys = [self._new_key(made.file_extension) for _ in times]

        def task() -> Task:
            return StillsTask(
                plan=self._plan,
                rendition_index=index,
                segment_paths=self._paths,
                output_paths=tuple(self._fresh_path(key) for key in keys),
            )

        written = cast("StillsResult", self._tasks.run(Phase.JOIN, task, self._guard.open))
        return [
            Product(
                work_key=key,
                stream_id=made.stream_id,
                intent=made.intent,
                extension=made.file_extension,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                media_time_us=microseconds(self._plan, pts),
            )
            for key, pts, file in zip(keys, times, written.files, strict=True)
        ]

    def _holds_maker(self, made: Rendition) -> bool:
        return (
            bool(self._plan.maker_stream_ids)
            and made.intent is StreamIntent.VIDEO
            and made.container in _HOLDS_MAKER
        )

    def _has_maker_inside(self) -> bool:
        """Whether all enhanced videos, and at least one, hold the maker track."""
        videos = [made for made in self._plan.renditions if made.intent is StreamIntent.VIDEO]
        return bool(videos) and all(self._holds_maker(made) for made in videos)

    def _make_maker(self, stream_id: int) -> Product:
        key = self._new_key(_MAKER_EXTENSION)

        def task() -> Task:
            return MakerTask(media=self._media, plan=self._plan, output_path=self._fresh_path(key))

        made = cast("MakerResult", self._tasks.run(Phase.JOIN, task, self._guard.open))
        return Product(
            work_key=key,
            stream_id=stream_id,
            intent=StreamIntent.CUSTOM,
            extension=_MAKER_EXTENSION,
            size_bytes=made.file.size_bytes,
            sha256=made.file.sha256,
        )

    def _compare(self, stream_id: int) -> Product:
        """Put some frames of the source and of what was made beside each other."""
        key = self._new_key(_STRIP_EXTENSION)

        def task() -> Task:
            return StripTask(
                video=self._media.video,
                plan=self._plan,
                segment_paths=self._paths,
                output_path=self._fresh_path(key),
            )

        made = cast("StripResult", self._tasks.run(Phase.VERIFY, task, self._guard.open))
        return Product(
            work_key=key,
            stream_id=stream_id,
            intent=StreamIntent.ANALYZE,
            extension=_STRIP_EXTENSION,
            size_bytes=made.file.size_bytes,
            sha256=made.file.sha256,
        )

    def _analyse(self, outcome: Outcome, stream_id: int) -> Product:
        key = self._new_key(_REPORT_EXTENSION)
        data = analysis.to_json(outcome)
        self._blobs.append(BlobKind.WORK, key, 0, data)
        self._blobs.sync(BlobKind.WORK, key)
        return Product(
            work_key=key,
            stream_id=stream_id,
            intent=StreamIntent.ANALYZE,
            extension=_REPORT_EXTENSION,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )

    def _new_key(self, extension: str) -> str:
        key = f"{self._plan_id}-{new_id()}{extension}"
        self._work_keys.append(key)
        return key

    def _fresh_path(self, key: str) -> str:
        """Return where a worker makes the file; what an earlier try left is gone."""
        self._blobs.delete(BlobKind.WORK, key)
        return str(self._blobs.path(BlobKind.WORK, key))
