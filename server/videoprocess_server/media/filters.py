"""Runs frames through a chain of filters, FFmpeg's and our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby

import av.error
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.graphs import add_source, filtered, new_graph
from videoprocess_server.media.own_filters import OWN_FILTERS, OwnFilter, arguments_of


def picture_of(frame: VideoFrame) -> str:
    """Tell size and pixel format, e.g. "1920x1080 yuv420p"."""
    return f"{frame.width}x{frame.height} {frame.format.name}"


def run_filters(
    frames: Iterable[VideoFrame], stages: Sequence[str], time_base: Fraction, picture: str
) -> Iterator[VideoFrame]:
    """Filter frames; time stamps pass through, and a chain that looks ahead is flushed at the end.

    Args:
        frames: in order of their time stamps.
        stages: as `FilterChain` takes them.
        time_base: of the frames.
        picture: what `picture_of` must tell of every frame; "" for whatever the first is.

    Raises:
        MediaFault: DECODE_FAILED where a frame is not such a picture, ENCODE_FAILED where a filter refuses.
    """
    chain = FilterChain(stages, time_base)
    for frame in frames:
        expected = picture or picture_of(frame)
        picture = expected
        if picture_of(frame) != expected:
            seconds = float((frame.pts or 0) * time_base)
            raise MediaFault(
                "DECODE_FAILED",
                f"The picture changes at {seconds:.3f} s, from {expected} to {picture_of(frame)}.",
            )
        yield from chain.push(frame)
    yield from chain.push(None)


class FilterChain:
    """Stages that are configured by the first frame that comes: runs of FFmpeg's filters, and our own between them.

    Args:
        stages: filters in FFmpeg's syntax, or of `OWN_FILTERS` in the same; the last one is a "format=".
        time_base: of the frames that come in.
    """

    def __init__(self, stages: Sequence[str], time_base: Fraction) -> None:
        self._links = [_Link(group, time_base) for group in _groups(stages)]

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give the chain a frame, or None at the end, and take what comes out.

        Raises:
            MediaFault: ENCODE_FAILED where a filter refuses or fails.
        """
        yield from self._push(0, frame)

    def _push(self, position: int, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        if position == len(self._links):
            if frame is not None:
                yield frame
            return
        for made in self._links[position].push(frame):
            yield from self._push(position + 1, made)
        if frame is None:
            yield from self._push(position + 1, None)


class _Link:
    """One filter of our own, or a graph of FFmpeg's."""

    def __init__(self, stages: tuple[str, ...], time_base: Fraction) -> None:
        self._stages = stages
        self._time_base = time_base
        self._filter: OwnFilter | None = None

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Configure it with the first frame; where none came there is nothing to flush."""
        if self._filter is None:
            if frame is None:
                return
            self._filter = self._configured(frame)
        yield from self._filter.push(frame)

    def _configured(self, first: VideoFrame) -> OwnFilter:
        time_base = first.time_base or self._time_base
        make = OWN_FILTERS.get(_name(self._stages[0]))
        if make is None:
            return _Graph(first, self._stages, time_base)
        return make(first, arguments_of(self._stages[0]), time_base)


class _Graph:
    """A graph of FFmpeg's filters with one source and one sink."""

    def __init__(self, first: VideoFrame, stages: Sequence[str], time_base: Fraction) -> None:
        graph = new_graph()
        self._source = add_source(graph, first, time_base)
        self._sink = graph.add("buffersink")
        try:
            graph.link_nodes(self._source, *(_add(graph, stage) for stage in stages), self._sink).configure()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaFault(
                "ENCODE_FAILED", "A filter of the plan is not there or refuses the picture."
            ) from error
        self._graph = graph  # the contexts do not keep it alive

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        try:
            yield from filtered(self._source, self._sink, frame)
        except av.error.FFmpegError as error:
            raise MediaFault("ENCODE_FAILED", "A filter of the plan failed.") from error


def _groups(stages: Sequence[str]) -> list[tuple[str, ...]]:
    """Give each filter of our own for itself, and each run of FFmpeg's."""
    groups: list[tuple[str, ...]] = []
    for own, run in groupby(stages, key=lambda stage: _name(stage) in OWN_FILTERS):
        together = tuple(run)
        groups.extend([(stage,) for stage in together] if own else [together])
    return groups


def _name(stage: str) -> str:
    return stage.partition("=")[0]


def _add(graph: Graph, stage: str) -> FilterContext:
    name, _, arguments = stage.partition("=")
    return graph.add(name, arguments or None)
