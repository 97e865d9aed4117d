"""Clips made by the tests: every frame carries its number (frame_pictures)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from frame_pictures import draw_frame, frame_number, plane_values

AUDIO_RATE = 48_000  # Hz
BEEP_SAMPLES = 4_800  # 100 ms of 1 kHz


@dataclass(frozen=True)
class Clip:
    """What was written, as a player shows it."""

    path: Path
    #: presentation times in seconds, of the frames a player shows
    times: tuple[Fraction, ...]
    #: numbers drawn into them
    numbers: tuple[int, ...]
    time_base: Fraction
    #: seconds of the video's frames that are white, where flash_and_beep was asked for
    flashes: tuple[Fraction, ...]


@dataclass(frozen=True)
class Colours:
    """Numbers of ISO/IEC 23091-2 and FFmpeg's range (1 limited, 2 full)."""

    primaries: int = 1
    transfer: int = 1
    matrix: int = 1
    range: int = 1


def make_clip(
    path: Path,
    *,
    frames: int = 24,
    fps: Fraction = Fraction(30),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    width: int = 320,
    height: int = 180,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 2,
    open_gop: bool = False,
    audio: str | None = None,
    rotation: int = 0,
    start_pts: int = 0,
    hidden_frames: int = 0,
    flash_and_beep: bool = False,
    noise_sigma: float = 0.0,
    colours: Colours | None = None,
    sample_aspect_ratio: Fraction | None = None,
    metadata: dict[str, str] | None = None,
    crf: int = 18,
    movement: float = 2.0,
) -> Clip:
    """Writes a clip; the container follows from the suffix of `path`.

    Args:
        path: where to; overwritten.
        frames: how many are encoded, where `pts` is not given.
        fps: constant rate, where `pts` is not given.
        pts: presentation times in ticks of `time_base`, ascending: a variable rate.
        time_base: seconds a tick; 1 / fps' numerator where it is not given.
        width: pixels, at least 64.
        height: pixels, at least 48.
        codec: FFmpeg's video encoder.
        pix_fmt: planar yuv of 8 or 10 bits.
        gop: frames from key frame to key frame.
        b_frames: consecutive ones at most.
        open_gop: whether frames before a key frame may refer to the GOP before.
        audio: FFmpeg's audio encoder; None for no sound.
        rotation: degrees counterclockwise, written as a display matrix.
        start_pts: ticks added to every frame; sound still begins at 0.
        hidden_frames: so many frames at the begin lie before time 0: the MP4 muxer writes an edit list that hides them.
        flash_and_beep: a white frame and a beep at every full second.
        noise_sigma: Gaussian noise in code values of 255, added before encoding.
        colours: what is declared; None declares nothing but the range that `pix_fmt` implies.
        sample_aspect_ratio: of a pixel; None does not declare it.
        metadata: of the container.
        crf: the encoder's quality.
        movement: pixels a frame that the texture moves.

    Returns:
        What a player should show.
    """
    if time_base is None:
        time_base = Fraction(1, fps.numerator)
    step = max(1, int(1 / (fps * time_base)))
    ticks = list(pts) if pts is not None else [step * k for k in range(frames)]
    ticks = [t - ticks[hidden_frames] + start_pts if hidden_frames else t + start_pts for t in ticks]
    flashing = _flashing(ticks, time_base) if flash_and_beep else frozenset()
    drawn = (
        draw_frame(k, width, height, pix_fmt, flash=k in flashing, noise_sigma=noise_sigma, movement=movement)
        for k in range(len(ticks))
    )
    # The default of 1000 ticks a second would round where the picture starts.
    options = {"movie_timescale": str(time_base.denominator)} if path.suffix in {".mp4", ".mov"} else {}
    if metadata and options:
        options["movflags"] = "use_metadata_tags"
    with cast("OutputContainer", av.open(str(path), "w", options=options)) as out:
        out.metadata.update(metadata or {})
        stream = cast(
            "Any", out.add_stream(codec, rate=fps, options=_options(codec, crf, gop, b_frames, open_gop))
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        if sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        _set_colours(stream.codec_context, colours)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = cast("Any", out.add_stream(audio, rate=AUDIO_RATE, layout="mono")) if audio else None
        packets = list(_encode(stream, drawn, ticks, time_base))
        if len(ticks) < 3:  # x265 leaves their decode times uninitialised
            for packet in packets:
                packet.dts = packet.pts
        if sound is not None:
            seconds = (ticks[-1] + step) * time_base
            packets += _encode_sound(sound, seconds, beeps=flash_and_beep)
        for packet in sorted(
            packets, key=lambda p: (p.dts if p.dts is not None else p.pts or 0) * p.time_base
        ):
            out.mux(packet)
    shown = range(hidden_frames, len(ticks))
    return Clip(
        path=path,
        times=tuple(ticks[k] * time_base for k in shown),
        numbers=tuple(shown),
        time_base=time_base,
        flashes=tuple(ticks[k] * time_base for k in sorted(flashing)),
    )


def shrink_clip(source: Path, path: Path, *, width: int, height: int, gop: int, crf: int = 18) -> int:
    """Writes a clip's first picture track anew, smaller and with a key frame every `gop` frames, and its sound as it is.

    Returns:
        Number of frames.
    """
    count = 0
    with av.open(str(source)) as clip, cast("OutputContainer", av.open(str(path), "w")) as out:
        pictures, sounds = clip.streams.video[0], clip.streams.audio[:1]
        small = cast("Any", out.add_stream("libx264", rate=pictures.average_rate))
        small.options = _options("libx264", crf, gop, 2, open_gop=False)
        small.width, small.height, small.pix_fmt = width, height, "yuv420p"
        small.time_base = small.codec_context.time_base = pictures.time_base
        small.codec_context.thread_count = 1
        copies = {sound.index: out.add_stream_from_template(sound) for sound in sounds}
        for packet in clip.demux(pictures, *sounds):
            if packet.stream_index == pictures.index:
                for frame in cast("list[VideoFrame]", packet.decode()):
                    out.mux(small.encode(frame.reformat(width, height, format="yuv420p")))
                    count += 1
            elif packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
        out.mux(small.encode(None))
    return count


def read_frame_numbers(source: Path | str | InputContainer) -> list[tuple[Fraction, int]]:
    """Decodes the first video track.

    Returns:
        Presentation time in seconds and number of every frame, in the decoder's order.
    """
    if not isinstance(source, InputContainer):
        with av.open(str(source)) as container:
            return read_frame_numbers(container)
    shown = []
    for frame in source.decode(source.streams.video[0]):
        assert frame.pts is not None
        assert frame.time_base is not None
        shown.append((frame.pts * frame.time_base, frame_number(frame)))
    return shown


def read_flashes(path: Path) -> list[Fraction]:
    """Times in seconds of the white frames; the texture's brightest frame is far below."""
    flashes = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            assert frame.pts is not None
            assert frame.time_base is not None
            values = plane_values(frame, 0)[frame.height // 2 :]
            if values.mean() > 0.8 * 2 ** frame.format.components[0].bits:
                flashes.append(frame.pts * frame.time_base)
    return flashes


def read_beeps(path: Path) -> list[Fraction]:
    """Times in seconds at which a beep begins, exact to the sample for PCM and to a few milliseconds for AAC."""
    beeps: list[Fraction] = []
    quiet_since = Fraction(-1)
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[0]):
            assert frame.pts is not None
            assert frame.time_base is not None
            samples = frame.to_ndarray().astype(np.float64).reshape(-1)
            scale = 32768.0 if "16" in frame.format.name else 1.0
            for k in np.flatnonzero(np.abs(samples) / scale > 0.2):
                at = frame.pts * frame.time_base + Fraction(int(k), frame.sample_rate)
                if at - quiet_since > Fraction(1, 2):
                    beeps.append(at)
                quiet_since = at
    return beeps


def _options(codec: str, crf: int, gop: int, b_frames: int, open_gop: bool) -> dict[str, str]:
    options = {"preset": "veryfast", "crf": str(crf), "g": str(gop), "bf": str(b_frames)}
    if codec == "libx264":
        return {**options, "sc_threshold": "0", "x264-params": f"open-gop={int(open_gop)}"}
    if codec == "libx265":
        quiet = "pools=none:frame-threads=1:wpp=0:info=0:log-level=error:scenecut=0"
        params = f"{quiet}:open-gop={int(open_gop)}:keyint={gop}:min-keyint={gop}:bframes={b_frames}"
        return {"preset": "ultrafast", "crf": str(crf), "x265-params": params}
    return {"g": str(gop)}


def _set_colours(context: Any, colours: Colours | None) -> None:
    if colours is None:
        return
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    context.colorspace, context.color_range = colours.matrix, colours.range


def _flashing(ticks: Sequence[int], time_base: Fraction) -> frozenset[int]:
    """Indices of the frames shown at every full second."""
    found = set()
    for k, tick in enumerate(ticks):
        end = ticks[k + 1] if k + 1 < len(ticks) else tick + 1
        second = -int(-tick * time_base // 1)  # rounded up
        if tick >= 0 and tick <= second / time_base < end:
            found.add(k)
    return frozenset(found)


def _encode(
    stream: Any, frames: Iterator[VideoFrame], ticks: Sequence[int], time_base: Fraction
) -> Iterator[Packet[Any]]:
    for frame, tick in zip(frames, ticks, strict=True):
        frame.pts, frame.time_base = tick, time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _encode_sound(stream: Any, seconds: Fraction, *, beeps: bool) -> list[Packet[Any]]:
    """A soft hum, or silence with a 100 ms beep of 1 kHz from every full second on."""
    count = int(seconds * AUDIO_RATE)
    at = np.arange(count)
    tone = np.sin(2 * np.pi * (1000 if beeps else 220) * at / AUDIO_RATE + np.pi / 2)
    loud = np.where(at % AUDIO_RATE < BEEP_SAMPLES, 0.8, 0.0) if beeps else np.full(count, 0.1)
    samples = np.rint(tone * loud * 32767).astype(np.int16)
    packets: list[Packet[Any]] = []
    for start in range(0, count, 1024):
        frame = AudioFrame.from_ndarray(samples[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))
