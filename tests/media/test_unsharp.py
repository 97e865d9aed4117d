"""Sharpening gives the very samples of FFmpeg's unsharp, whose name and arguments it has."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.graphs import add_source, filtered, new_graph
from videoprocess_server.media.planes import read_plane, write_plane

TIME_BASE = Fraction(1, 30)
PIXEL_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p")


def _noise(width: int, height: int, pixel_format: str, seed: int) -> VideoFrame:
    """A frame of random samples; where they are black and white only every difference there can be is met."""
    frame = VideoFrame(width, height, pixel_format)
    random = np.random.default_rng(seed)
    kinds = ([*range(256)], [0, 255], [0, 1, 254, 255])
    for plane in frame.planes:
        samples = random.choice(kinds[seed % len(kinds)], plane.buffer_size)
        plane.update(samples.astype(np.uint8).tobytes())
    frame.pts, frame.time_base = 7, TIME_BASE
    return frame


def _by_ffmpeg(frame: VideoFrame, stage: str) -> VideoFrame:
    name, _, arguments = stage.partition("=")
    graph = new_graph()
    source, sink = add_source(graph, frame, TIME_BASE), graph.add("buffersink")
    graph.link_nodes(source, graph.add(name, arguments), sink).configure()
    (made,) = filtered(source, sink, frame)
    return made


def _planes(frame: VideoFrame) -> list[bytes]:
    return [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width].tobytes()
        for plane in frame.planes
    ]


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(2, 90),
    height=st.integers(8, 90),
    pixel_format=st.sampled_from(PIXEL_FORMATS),
    amount=st.integers(0, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_samples_are_those_of_ffmpegs_filter(
    width: int, height: int, pixel_format: str, amount: int, seed: int
) -> None:
    frame = _noise(width, height, pixel_format, seed)
    stage = f"unsharp=lx=5:ly=5:la={amount / 100:.2f}:ca=0"
    before, expected = _planes(frame), _planes(_by_ffmpeg(frame, stage))
    chain = FilterChain((stage,), TIME_BASE)
    for _ in range(2):  # what is left of a frame does not come out with the next
        (made,) = chain.push(frame)
        assert _planes(made) == expected
        assert (made.pts, made.time_base) == (7, TIME_BASE)
    assert _planes(frame) == before


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1918, 322), (40_000, 8), (16, 16_000)])
def test_pictures_of_many_strips(width: int, height: int) -> None:
    frame = _noise(width, height, "yuv420p", 1)
    stage = "unsharp=lx=5:ly=5:la=0.15:ca=0"
    (made,) = FilterChain((stage,), TIME_BASE).push(frame)
    assert _planes(made) == _planes(_by_ffmpeg(frame, stage))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (4, 4), (2, 64), (64, 6)])
def test_low_pictures_are_no_black_ones(width: int, height: int) -> None:
    """FFmpeg's filter gives black for fewer than 8 rows (8.1.2)."""
    frame = VideoFrame(width, height, "yuv444p")
    for plane in range(3):
        write_plane(frame, plane, np.full((height, width), 40 + plane))
    frame.pts = 0
    (made,) = FilterChain(("unsharp=lx=5:ly=5:la=1.00:ca=0",), TIME_BASE).push(frame)
    assert _planes(made) == _planes(frame)


def test_nothing_comes_out_at_the_end() -> None:
    chain = FilterChain(("unsharp=lx=5:ly=5:la=0.15:ca=0",), TIME_BASE)
    assert len(list(chain.push(_noise(16, 16, "yuv420p", 1)))) == 1
    assert list(chain.push(None)) == []


@pytest.mark.parametrize(
    ("pixel_format", "arguments"),
    [
        ("yuv420p10le", "lx=5:ly=5:la=0.15:ca=0"),
        ("yuv420p", "lx=7:ly=5:la=0.15:ca=0"),
        ("yuv420p", "lx=5:ly=5:la=0.15:ca=0.1"),
        ("yuv420p", "lx=5:ly=5:la=-0.5:ca=0"),
        ("yuv420p", "lx=5:ly=5:la=0.15"),
    ],
)
def test_what_it_cannot_do_is_refused(pixel_format: str, arguments: str) -> None:
    frame = VideoFrame(16, 16, pixel_format)
    for plane in range(len(frame.planes)):
        write_plane(frame, plane, np.zeros(read_plane(frame, plane).shape))
    frame.pts = 0
    with pytest.raises(MediaFault) as refused:
        list(FilterChain((f"unsharp={arguments}",), TIME_BASE).push(frame))
    assert refused.value.reason == "ENCODE_FAILED"
