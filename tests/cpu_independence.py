"""Prints digests of what is made of a few frames; run with a number, FFmpeg believes that the processor has those features only."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from frame_pictures import draw_frame
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.still_colour import map_to_jpeg
from videoprocess_server.media.still_encoding import plan_jpeg
from videoprocess_server.media.tone_mapping.stages import STILL_COLOUR, HdrLight, map_still, map_video
from videoprocess_server.media.upright import plan_upright
from videoprocess_server.media.watermark import Stamp
from videoprocess_server.model.media_info import Colour, VideoTrackInfo
from videoprocess_server.model.plan import Overlay
from videoprocess_server.model.settings_snapshot import Rect, Watermark

HLG = Colour(primaries=9, transfer=18, matrix=9, range=1)
SDR = Colour(primaries=1, transfer=1, matrix=1, range=1)
#: clockwise by a right angle
TURNED = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
SIZE = (334, 190)


def force_cpu_flags(flags: int) -> None:
    """Make FFmpeg take the processor for another one."""
    library = next((Path(av.__file__).parent.parent / "av.libs").glob("libavutil-*"))
    ctypes.CDLL(str(library)).av_force_cpu_flags(flags)


def video_of(pixel_format: str, colour: Colour) -> VideoTrackInfo:
    return VideoTrackInfo(
        index=0,
        codec="h264",
        profile="",
        width=SIZE[0],
        height=SIZE[1],
        pixel_format=pixel_format,
        bit_depth=10 if "10" in pixel_format else 8,
        time_base=Fraction(1, 30),
        average_frame_rate=None,
        variable_frame_rate=False,
        duration=None,
        sample_aspect_ratio=Fraction(0, 1),
        rotation_degrees=0,
        colour=colour,
    )


def still_of(pixel_format: str, colour: Colour, asked: tuple[int, int]) -> bytes:
    """Draw a frame, make a picture of it and code it, as an encoding task does."""
    frame = draw_frame(5, *SIZE, pixel_format)
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    whole = Rect(x=0, y=0, width=SIZE[0], height=SIZE[1])
    deep = "yuv444p10le" if "10" in pixel_format else "yuv444p"
    geometry = plan_upright(video_of(pixel_format, colour), whole, TURNED, asked, None, deep)
    mapping = map_still(HdrLight(colour=colour, peak=1000), deep) if colour is HLG else ()
    chain = FilterChain((*geometry.fit, *mapping), Fraction(1, 30))
    shown = STILL_COLOUR if mapping else colour
    picture = map_to_jpeg([*chain.push(frame), *chain.push(None)][0], shown)
    plan = plan_jpeg(geometry, Fraction(30))
    context = av.CodecContext.create(plan.encoder, "w")
    context.thread_count = 1
    context.options = dict(plan.options)
    context.width, context.height, context.pix_fmt = plan.width, plan.height, plan.pixel_format
    context.color_range, context.time_base = 2, Fraction(1, 30)
    return b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])


def png_of(pixels: np.ndarray) -> bytes:
    """Code red, green, blue and alpha as a PNG."""
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = pixels.shape[1], pixels.shape[0], "rgba"
    context.time_base = Fraction(1)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels, np.uint8), format="rgba")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def stamped(pixel_format: str, colour: Colour, scale_factor: float) -> bytes:
    """Burn a picture into a frame."""
    pixels = np.random.default_rng(3).integers(0, 256, (61, 87, 4))
    watermark = Watermark(
        image=png_of(pixels), scale_factor=scale_factor, rotation_degrees=90, x=11, y=7, width=0, height=0
    )
    frame = draw_frame(5, *SIZE, pixel_format)
    Stamp(Overlay(watermark=watermark, colour=colour), frame).burn_into(frame)
    return b"".join(bytes(plane) for plane in frame.planes)


def mapped(pixel_format: str, transfer: int, result: str, size: tuple[int, int]) -> bytes:
    """Make SDR of a frame, as a video's rendition does."""
    frame = draw_frame(5, *SIZE, pixel_format)
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    light = HdrLight(colour=Colour(primaries=9, transfer=transfer, matrix=9, range=1), peak=1000)
    chain = FilterChain(map_video(light, pixel_format, size, result, None), Fraction(1, 30))
    made = [*chain.push(frame), *chain.push(None)][0]
    return b"".join(read_plane(made, index).tobytes() for index in range(3))


def control() -> bytes:
    """Scale a frame in a way that is known to depend on the processor."""
    frame = draw_frame(5, *SIZE)
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    chain = FilterChain(("scale=101:77:flags=bicubic", "format=pix_fmts=rgb24"), Fraction(1, 30))
    return bytes([*chain.push(frame), *chain.push(None)][0].planes[0])


def main() -> None:
    if len(sys.argv) > 1:
        force_cpu_flags(int(sys.argv[1]))
    made = (
        still_of("yuv420p", SDR, (0, 0)),
        still_of("yuv422p10le", HLG, (101, 0)),
        still_of("yuv420p10le", HLG, (700, 900)),
        mapped("yuv420p10le", 18, "yuv420p", SIZE),
        mapped("yuv422p10le", 16, "yuv422p10le", (190, 102)),
        mapped("yuv420p", 16, "yuv420p", SIZE),
        stamped("yuv420p", SDR, 0.4),
        stamped("yuv444p10le", HLG, 1.7),
        control(),
    )
    print(*(hashlib.sha256(data).hexdigest() for data in made))


if __name__ == "__main__":
    main()
