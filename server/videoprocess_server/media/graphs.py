"""What every graph of FFmpeg's filters needs: its threads, what frames are put into, what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import av.error
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame

#: some filters give other pixels with another number (bm3d at 10 bits, greyedge)
GRAPH_THREADS: Final = 1


def new_graph() -> Graph:
    """Return a graph without filters."""
    graph = Graph()
    graph.threads = GRAPH_THREADS
    return graph


def add_source(graph: Graph, frame: VideoFrame, time_base: Fraction) -> FilterContext:
    """Add what frames are put into.

    Args:
        graph: that gets it.
        frame: like which all will be.
        time_base: of the frames.
    """
    return graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(time_base),
        pixel_aspect="1/1",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )


def filtered(source: FilterContext, sink: FilterContext, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """Put a frame, or None at the end, into a graph and give what comes out.

    Raises:
        av.error.FFmpegError: A filter failed.
    """
    try:
        source.push(frame)
        while True:
            made = sink.pull()
            assert isinstance(made, VideoFrame)
            yield made
    except (av.error.BlockingIOError, av.error.EOFError):
        return
