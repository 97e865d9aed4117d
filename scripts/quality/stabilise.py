"""Stabilising: known shake is added to clips, and what is left of it is measured, beside the ffmpeg program's stabilisers.

A window moves over each clip, so that no border ever shows: over a still one, and along a pan that begins, gets faster and
ends. Hand-held shake is added to the window's place: seeded noise from 0.5 to 10 Hz that falls with the frequency, up to
2.5 % of the width, 1 degree and 0.5 % of size. Every output frame is then aligned with the clean frame of the same time by OpenCV's
enhanced correlation coefficient (Evangelidis and Psarakis), which the product does not use: both show the same things, so what
moves in the picture does not matter, and what differs is what is left of the shake.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import imageio_ffmpeg
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from videoprocess_server.media.planes import read_plane
from videoprocess_server.media.stabilise.camera_path import STRENGTHS
from videoprocess_server.media.stabilise.fixed_point import PIXEL_TICKS, UNIT_TICKS
from videoprocess_server.media.stabilise.motion import MotionMeter
from videoprocess_server.media.stabilise.path_task import plan_path
from videoprocess_server.media.stabilise.records import MOTION, PATH, Records, write_records
from videoprocess_server.media.stabilise.warp import Warper
from videoprocess_server.model.hdi import VideoStabilisation

Array = NDArray[np.float64]

NAME: Final = "stabilise"
DEFAULT_CLIPS: Final = ("dog_720p30_10s.mp4", "flower_540p_5s.mp4")
#: frames of each clip that are used, and how many are a second
MOST_FRAMES: Final = 120
RATE: Final = 30
TIME_BASE: Final = Fraction(1, RATE)
#: of the shake of a still window, and of one that pans
SEEDS: Final = {False: (1, 2), True: (3,)}
#: of the added shake: a share of the width, radians, logarithm of the scale
MOST_SHIFT: Final = 0.025
MOST_TURN: Final = math.radians(1.0)
MOST_GROWTH: Final = 0.005
LEAST_HZ: Final = 0.5
MOST_HZ: Final = 10.0
#: share of the clip's width and height that the window has, where it stays and where it pans
WINDOW_STILL: Final = 0.85
WINDOW_PAN: Final = 0.6
#: goals
LEAST_REMOVED: Final = 0.8
MOST_CROPPED: Final = 0.1
MOST_PAN_CHANGE_PX: Final = 0.5
#: pixels of the longer side of what is measured, and the share of it that borders do not reach
MEASURED_PIXELS: Final = 320
MEASURED_SHARE: Final = 0.8
#: of two frames that show the same
LEAST_CORRELATION: Final = 0.9
#: seconds of the Gaussian that tells motion that is meant from jitter
SMOOTH_SECONDS: Final = 0.5

#: the other stabilisers: zoomed to the crop that ours may use at most
_ZOOM_PERCENT: Final = 100 * (1 / (1 - MOST_CROPPED) - 1)
_CROP: Final = f"crop=iw*{1 - MOST_CROPPED}:ih*{1 - MOST_CROPPED}"
OTHERS: Final = {
    **{
        f"vidstab {algorithm} {smoothing}": f"vidstabtransform=input={{transforms}}:smoothing={smoothing}:optalgo={algorithm}"
        f":optzoom=0:zoom={_ZOOM_PERCENT:.4f}:interpol=bicubic"
        for algorithm, smoothing in (("opt", 15), ("opt", 30), ("gauss", 45), ("gauss", 60))
    },
    "deshake": f"deshake=rx=32:ry=32,{_CROP}",
}
#: of vidstabdetect
_TRANSFORMS: Final = "transforms.trf"
_DETECT: Final = "vidstabdetect=shakiness=10:accuracy=15:result={transforms}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A shaken clip."""

    clip: Path
    #: whether the window pans
    pans: bool
    #: of the shake; None for none
    seed: int | None


def run(work: Path, clips: Sequence[Path]) -> dict[str, Any]:
    """Shake, stabilise and measure.

    Returns:
        For each clip and way of moving the jitter in pixels before, after ours and after each of the others, and the goals.
    """
    results: dict[str, Any] = {}
    for clip in clips:
        results[clip.name] = {
            "still camera": _measure_shaken(work, clip, pans=False),
            "pan": _measure_shaken(work, clip, pans=True),
            "clean pan": _measure_clean_pan(work, clip),
        }
    return results


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the share of the jitter that each way leaves, as PATH.png."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    cases = [(clip, way) for clip in result for way in ("still camera", "pan")]
    figure, axes = plt.subplots(1, len(cases), figsize=(3.2 * len(cases), 3.2), sharey=True, squeeze=False)
    for (clip, way), axis in zip(cases, axes[0], strict=True):
        figures = result[clip][way]
        left = {"ours": figures["jitter_px_ours"], **figures["jitter_px_others"]}
        percent = [100 * value / figures["jitter_px_before"] for value in left.values()]
        axis.barh(list(left), percent, color=["tab:green"] + ["tab:gray"] * (len(left) - 1))
        axis.invert_yaxis()
        axis.set_title(f"{Path(clip).stem}, {way}", fontsize=8)
        axis.set_xlabel("jitter left, %")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=80)
    plt.close(figure)


def _measure_shaken(work: Path, clip: Path, *, pans: bool) -> dict[str, Any]:
    """Measure each seed and give the means."""
    found = [_measure_case(work, Case(clip=clip, pans=pans, seed=seed)) for seed in SEEDS[pans]]
    others = {name: _mean(one["others"][name] for one in found) for name in OTHERS}
    beside = {name: _mean(one["others_beside"][name] for one in found) for name in OTHERS}
    before, after = _mean(one["before"] for one in found), _mean(one["after"] for one in found)
    removed = min(1 - one["after"] / one["before"] for one in found)
    cropped = max(one["cropped"] for one in found)
    return {
        "jitter_px_before": round(before, 4),
        "jitter_px_ours": round(after, 4),
        "jitter_px_others": {name: round(value, 4) for name, value in others.items()},
        "least_removed": round(removed, 4),
        "most_cropped": round(cropped, 4),
        "slowly_beside_px_ours": round(_mean(one["beside"] for one in found), 2),
        "slowly_beside_px_others": {name: round(value, 2) for name, value in beside.items()},
        "cpu_ms_per_frame_motion": round(_mean(one["motion_ms"] for one in found), 1),
        "cpu_ms_per_frame_warp": round(_mean(one["warp_ms"] for one in found), 1),
        "goals": {
            "lower than vidstab": {
                "met": after < min(v for n, v in others.items() if n.startswith("vidstab"))
            },
            "lower than deshake": {
                "met": after < min(v for n, v in others.items() if n.startswith("deshake"))
            },
            "80 % of the shake removed": {"met": removed >= LEAST_REMOVED},
            "crop at most 10 %": {"met": cropped <= MOST_CROPPED + 1e-6},
        },
    }


def _measure_case(work: Path, case: Case) -> dict[str, Any]:
    clean_clip, shaken = work / "clean.mkv", work / "shaken.mkv"
    _render(replace(case, seed=None), clean_clip)
    _render(case, shaken)
    clean = [_small(read_plane(frame, 0), MEASURED_PIXELS) for frame in _decoded(clean_clip)]
    motion, size, motion_ms = _motion(shaken)
    path, cropped = plan_path(motion, TIME_BASE, size, STRENGTHS[VideoStabilisation.HIGH])
    path_file = work / "path"
    path_file.unlink(missing_ok=True)
    write_records(path_file, PATH, *size, path)
    warped, warp_ms = _warped(shaken, path_file)
    before = register((read_plane(frame, 0) for frame in _decoded(shaken)), clean, size[0])
    after = register(warped, clean, size[0])
    _detect(work, shaken)
    others = {name: register(_filtered(work, shaken, name), clean, size[0]) for name in OTHERS}
    return {
        "before": jitter(high_passed(before), size),
        "after": jitter(high_passed(after), size),
        "others": {name: jitter(high_passed(rows), size) for name, rows in others.items()},
        "beside": _beside(after),
        "others_beside": {name: _beside(rows) for name, rows in others.items()},
        "cropped": cropped,
        "motion_ms": motion_ms,
        "warp_ms": warp_ms[0],
    }


def _beside(rows: Array) -> float:
    """Root mean square of how far the picture is beside the clean one for long, in pixels."""
    slow = (rows - high_passed(rows))[:2]
    return float(np.sqrt(np.square(slow).sum(axis=0).mean()))


def _measure_clean_pan(work: Path, clip: Path) -> dict[str, Any]:
    """Tell how far a pan without shake is changed."""
    target = work / "pan.mkv"
    _render(Case(clip=clip, pans=True, seed=None), target)
    motion, size, _ = _motion(target)
    path, cropped = plan_path(motion, TIME_BASE, size, STRENGTHS[VideoStabilisation.HIGH])
    change = float(np.abs(_correction(path)[:2]).max())
    return {
        "most_change_px": round(change, 3),
        "most_cropped": round(cropped, 4),
        "goals": {"left alone": {"met": change <= MOST_PAN_CHANGE_PX}},
    }


def make_shake(seed: int, frames: int, width: int) -> Array:
    """Make hand-held shake: rows of x and y in pixels, turn in radians and logarithm of the scale; a column a frame."""
    rng = np.random.default_rng(seed)
    hertz = np.fft.rfftfreq(4 * frames, 1 / RATE)
    weight = np.where((hertz >= LEAST_HZ) & (hertz <= MOST_HZ), 1 / np.maximum(hertz, LEAST_HZ), 0.0)
    noise = rng.normal(size=(4, len(hertz))) + 1j * rng.normal(size=(4, len(hertz)))
    rows = np.fft.irfft(noise * weight, axis=1)[:, :frames]
    rows /= np.abs(rows).max(axis=1, keepdims=True)
    most = np.array([MOST_SHIFT * width, MOST_SHIFT * width, MOST_TURN, MOST_GROWTH])
    return rows * most[:, None]


def make_pan(frames: int, length: float) -> Array:
    """Make a pan across: still, faster and faster, even, slower, still. From -1/2 to 1/2 of the length."""
    share = np.clip((np.arange(frames) / frames - 0.1) / 0.8, 0, 1)
    speed = np.minimum(1.0, np.minimum(share, 1 - share) / 0.3) * ((share > 0) & (share < 1))
    place = np.cumsum(speed) / speed.sum()
    return (place - 0.5) * length


def high_passed(rows: Array) -> Array:
    """Take away what a Gaussian of half a second leaves; the ends are mirrored about their points."""
    reach = int(4 * SMOOTH_SECONDS * RATE)
    weight = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / (SMOOTH_SECONDS * RATE)))
    reach = min(reach, rows.shape[1] - 1)
    weight = weight[len(weight) // 2 - reach : len(weight) // 2 + reach + 1]
    before = 2 * rows[:, :1] - rows[:, reach:0:-1]
    after = 2 * rows[:, -1:] - rows[:, -2 : -reach - 2 : -1]
    padded = np.concatenate([before, rows, after], axis=1)
    smooth = np.stack([np.convolve(row, weight / weight.sum(), "valid") for row in padded])
    return rows - smooth


def jitter(rows: Array, size: tuple[int, int]) -> float:
    """Root mean square of the motion between frames, over frames and pixels, in pixels; of rows as `make_shake` gives."""
    steps = np.diff(rows, axis=1)
    around = (size[0] ** 2 + size[1] ** 2) / 12
    return float(np.sqrt((steps[0] ** 2 + steps[1] ** 2 + (steps[2] ** 2 + steps[3] ** 2) * around).mean()))


def register(lumas: Iterable[NDArray[Any]], clean: Sequence[NDArray[np.float32]], width: int) -> Array:
    """Find where the clean frame of the same time has what each frame shows: rows as `make_shake` gives.

    Both show the same things at the same time, so that nothing but the camera's place differs.

    Args:
        lumas: what is measured.
        clean: as `_small` makes it of the clean clip.
        width: of the clean clip, in pixels.
    """
    rows = []
    factor = width / clean[0].shape[1]
    warp = np.eye(2, 3, dtype=np.float32)
    for number, (luma, truth) in enumerate(zip(lumas, clean, strict=True)):
        small = _small(luma, round(luma.shape[1] / factor))
        top, left = (round(side * (1 - MEASURED_SHARE) / 2) for side in small.shape)
        inner = np.ascontiguousarray(small[top : small.shape[0] - top, left : small.shape[1] - left])
        half_x, half_y = (inner.shape[1] - 1) / 2, (inner.shape[0] - 1) / 2
        if not number:
            warp = _from_the_middle(1.0, inner, truth)
        warp = _aligned(inner, truth, warp)
        x = warp[0, 0] * half_x + warp[0, 1] * half_y + warp[0, 2] - (truth.shape[1] - 1) / 2
        y = warp[1, 0] * half_x + warp[1, 1] * half_y + warp[1, 2] - (truth.shape[0] - 1) / 2
        turn = math.atan2(warp[1, 0] - warp[0, 1], warp[0, 0] + warp[1, 1])
        growth = math.log(warp[0, 0] * warp[1, 1] - warp[0, 1] * warp[1, 0]) / 2
        rows.append([x * factor, y * factor, turn, growth])
    return np.array(rows).T


def _aligned(
    inner: NDArray[np.float32], truth: NDArray[np.float32], warp: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Find the affine map with the best correlation, from where the frame before had it; else from the middle."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    found = []
    for begin in (warp, _from_the_middle(0.9, inner, truth), _from_the_middle(1.0, inner, truth)):
        try:
            found.append(
                cv2.findTransformECC(inner, truth, begin.copy(), cv2.MOTION_AFFINE, criteria, None, 5)
            )
        except cv2.error:
            continue
        if found[-1][0] > LEAST_CORRELATION:
            break
    if not found:
        raise RuntimeError("a frame shows nothing of the clean one")
    aligned: NDArray[np.float32] = max(found, key=lambda one: one[0])[1]
    return aligned


def _from_the_middle(
    scale: float, inner: NDArray[np.float32], truth: NDArray[np.float32]
) -> NDArray[np.float32]:
    x, y = (
        (whole - 1 - scale * (part - 1)) / 2
        for whole, part in zip(truth.shape[::-1], inner.shape[::-1], strict=True)
    )
    return np.array([[scale, 0, x], [0, scale, y]], np.float32)


def _small(luma: NDArray[Any], width: int) -> NDArray[np.float32]:
    height = round(luma.shape[0] * width / luma.shape[1])
    return cv2.resize(np.ascontiguousarray(luma), (width, height), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )


def _render(case: Case, target: Path) -> tuple[Array, Array]:
    """Write the clip as the moving window shows it, lossless; give the window's way and the shake."""
    with av.open(case.clip) as container:
        stream = container.streams.video[0]
        frames = [
            np.stack([_full_size(frame, index) for index in range(3)], axis=2)
            for frame, _ in zip(container.decode(stream), range(MOST_FRAMES), strict=False)
        ]
    lines, columns = frames[0].shape[:2]
    share = WINDOW_PAN if case.pans else WINDOW_STILL
    width, height = (round(side * share) // 4 * 4 for side in (columns, lines))
    shake = np.zeros((4, len(frames))) if case.seed is None else make_shake(case.seed, len(frames), width)
    way = np.zeros((4, len(frames)))
    if case.pans:
        way[0] = make_pan(len(frames), columns - width * (1 + 2 * MOST_SHIFT) - 0.04 * columns)
    with av.open(target, "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"qp": "0", "preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, picture in enumerate(frames):
            x, y, turn, growth = -way[:, number] + shake[:, number]
            frame = VideoFrame.from_ndarray(_window(picture, (width, height), x, y, turn, growth), "yuv444p")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return way, shake


def _full_size(frame: VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = read_plane(frame, index)
    if plane.shape == (frame.height, frame.width):
        return plane.copy()
    return cv2.resize(plane.copy(), (frame.width, frame.height), interpolation=cv2.INTER_CUBIC)


def _window(
    picture: NDArray[np.uint8], size: tuple[int, int], x: float, y: float, turn: float, growth: float
) -> NDArray[np.uint8]:
    """Show the middle of a picture that is turned, grown and moved."""
    scale = math.exp(growth)
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    from_x, from_y = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    to_x, to_y = (size[0] - 1) / 2, (size[1] - 1) / 2
    matrix = np.array(
        [[a, -b, x + to_x - a * from_x + b * from_y], [b, a, y + to_y - b * from_x - a * from_y]]
    )
    shown = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LANCZOS4)
    return np.ascontiguousarray(shown.transpose(2, 0, 1))


def _decoded(path: Path) -> Iterator[VideoFrame]:
    with av.open(path) as container:
        yield from container.decode(container.streams.video[0])


def _motion(path: Path) -> tuple[Records, tuple[int, int], float]:
    """Measure a clip as the product does; and milliseconds of CPU a frame."""
    records, meter, spent = [], None, 0.0
    for number, frame in enumerate(_decoded(path)):
        meter = meter or MotionMeter(frame.width, frame.height)
        luma = read_plane(frame, 0)
        began = time.process_time()
        motion = meter.measure(number, luma)
        spent += time.process_time() - began
        records.append((number, motion.dx, motion.dy, motion.turn, motion.growth, int(motion.kind)))
        size = (frame.width, frame.height)
    return np.array(records, MOTION), size, spent / len(records) * 1000


def _warped(path: Path, path_file: Path) -> tuple[Iterator[NDArray[Any]], list[float]]:
    """Give the warped frames' luma, and milliseconds of CPU a frame once all have come."""
    told: list[float] = []

    def warped() -> Iterator[NDArray[Any]]:
        warper, spent, count = Warper(path_file), 0.0, 0
        for number, frame in enumerate(_decoded(path)):
            began = time.process_time()
            warper.warp(frame, number)
            spent, count = spent + time.process_time() - began, count + 1
            yield read_plane(frame, 0)
        told.append(spent / count * 1000)

    return warped(), told


def _correction(path: Records) -> Array:
    """Give what a camera path does to each frame but for the zoom: rows as `make_shake` gives."""
    a, b = path["a"] / UNIT_TICKS, path["b"] / UNIT_TICKS
    dx, dy = path["dx"] / PIXEL_TICKS, path["dy"] / PIXEL_TICKS
    turn = -np.arctan2(b, a)
    x, y = np.cos(turn) * dx - np.sin(turn) * dy, np.sin(turn) * dx + np.cos(turn) * dy
    return np.stack([-x, -y, turn, np.zeros(len(path))])


def _program(source: Path) -> list[str]:
    return [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-hide_banner",
        "-loglevel",
        "error",
        "-nostdin",
        "-i",
        str(source),
    ]


def _detect(work: Path, shaken: Path) -> None:
    """Make the first of vidstab's passes, which all its settings share."""
    detect = _DETECT.format(transforms=work / _TRANSFORMS)
    subprocess.run([*_program(shaken), "-vf", detect, "-f", "null", "-"], check=True)


def _filtered(work: Path, shaken: Path, name: str) -> Iterator[NDArray[Any]]:
    """Stabilise by the ffmpeg program, and give the luma of its frames."""
    transforms = work / _TRANSFORMS
    with av.open(shaken) as container:
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
    if name.startswith("deshake"):
        width, height = (int(side * (1 - MOST_CROPPED)) // 2 * 2 for side in (width, height))
    stage = OTHERS[name].format(transforms=transforms).replace(_CROP, f"crop={width}:{height}")
    command = [*_program(shaken), "-vf", stage, "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while len(data := process.stdout.read(width * height * 3 // 2)) == width * height * 3 // 2:
            yield np.frombuffer(data, np.uint8)[: width * height].reshape(height, width)
    if process.returncode:
        raise RuntimeError(f"ffmpeg failed on {stage}")


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
