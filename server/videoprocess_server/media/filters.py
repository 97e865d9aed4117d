"""Runs frames through a chain of FFmpeg's filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import av.error
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

from videoprocess_server.media.faults import MediaFault

#: some filters give other pixels with another number (bm3d at 10 bits, greyedge)
GRAPH_THREADS = 1


def picture_of(frame: VideoFrame) -> str:
    """Tell size and pixel format, e.g. "1920x1080 yuv420p"."""
    return f"{frame.width}x{frame.height} {frame.format.name}"


def run_filters(
    frames: Iterable[VideoFrame], stages: Sequence[str], time_base: Fraction, picture: str
) -> Iterator[VideoFrame]:
    """Filter frames; time stamps pass through, and a chain that looks ahead is flushed at the end.

    Args:
        frames: in order of their time stamps.
        stages: filters in FFmpeg's syntax, the last one a "format=".
        time_base: of the frames.
        picture: what `picture_of` must tell of every frame; "" for whatever the first is.

    Raises:
        MediaFault: DECODE_FAILED where a frame is not such a picture, ENCODE_FAILED where a filter refuses.
    """
    chain: FilterChain | None = None
    for frame in frames:
        expected = picture or picture_of(frame)
        picture = expected
        if picture_of(frame) != expected:
            seconds = float((frame.pts or 0) * time_base)
            raise MediaFault(
                "DECODE_FAILED",
                f"The picture changes at {seconds:.3f} s, from {expected} to {picture_of(frame)}.",
            )
        chain = chain or FilterChain(frame, stages, time_base)
        yield from chain.push(frame)
    if chain is not None:
        yield from chain.push(None)


class FilterChain:
    """A configured graph with one source and one sink.

    Args:
        first: a frame like all that will come.
        stages: filters in FFmpeg's syntax, the last one a "format=".
        time_base: of the frames.

    Raises:
        MediaFault: ENCODE_FAILED where a filter refuses.
    """

    def __init__(self, first: VideoFrame, stages: Sequence[str], time_base: Fraction) -> None:
        graph = Graph()
        graph.threads = GRAPH_THREADS
        self._source = graph.add(
            "buffer",
            video_size=f"{first.width}x{first.height}",
            pix_fmt=first.format.name,
            time_base=str(time_base),
            pixel_aspect="1/1",
            colorspace=str(int(first.colorspace)),
            range=str(int(first.color_range)),
        )
        self._sink = graph.add("buffersink")
        try:
            graph.link_nodes(self._source, *(_add(graph, stage) for stage in stages), self._sink).configure()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaFault(
                "ENCODE_FAILED", "A filter of the plan is not there or refuses the picture."
            ) from error
        self._graph = graph  # the contexts do not keep it alive

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give the chain a frame, or None at the end, and take what comes out."""
        try:
            self._source.push(frame)
            while True:
                filtered = self._sink.pull()
                assert isinstance(filtered, VideoFrame)
                yield filtered
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        except av.error.FFmpegError as error:
            raise MediaFault("ENCODE_FAILED", "A filter of the plan failed.") from error


def _add(graph: Graph, stage: str) -> FilterContext:
    name, _, arguments = stage.partition("=")
    return graph.add(name, arguments or None)
