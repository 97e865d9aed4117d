"""Prints digests of motion, path and warped pictures; "careless" leaves OpenCV free to do what the processor is best at."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from videoprocess_server.media.stabilise.camera_path import STRENGTHS
from videoprocess_server.media.stabilise.exact_cv2 import exact_cv2
from videoprocess_server.media.stabilise.motion import MotionMeter
from videoprocess_server.media.stabilise.path_task import plan_path
from videoprocess_server.media.stabilise.records import MOTION, PATH, write_records
from videoprocess_server.media.stabilise.warp import Warper
from videoprocess_server.model.hdi import VideoStabilisation

WIDTH, HEIGHT = 480, 270


def pictures() -> list[np.ndarray]:
    """Whole-pixel cuts out of a picture of whole numbers: nothing here may round differently."""
    rng = np.random.default_rng(3)
    rough = rng.integers(16, 236, (HEIGHT // 3, WIDTH // 2), dtype=np.uint8)
    large = np.repeat(np.repeat(rough, 6, axis=0), 6, axis=1)
    large = (large // 2 + rng.integers(0, 100, large.shape, dtype=np.uint8)).astype(np.uint8)
    places = rng.integers(-9, 10, (24, 2))
    return [np.ascontiguousarray(large[60 + y : 60 + y + HEIGHT, 90 + x : 90 + x + WIDTH]) for x, y in places]


def main() -> None:
    if "careless" in sys.argv:
        cv2 = exact_cv2()
        cv2.setUseOptimized(True)
        cv2.setUseOptimized = lambda _: None  # type: ignore[attr-defined]
    lumas = pictures()
    meter = MotionMeter(WIDTH, HEIGHT)
    motions = [astuple(meter.measure(number, luma)) for number, luma in enumerate(lumas)]
    motion = np.array(
        [(pts, dx, dy, turn, growth, int(kind)) for pts, kind, dx, dy, turn, growth in motions], MOTION
    )
    shaken = motion.copy()
    shaken["turn"] += np.arange(len(motion), dtype=np.int32) % 5 * 1_000_000
    path, _ = plan_path(shaken, Fraction(1, 30), (WIDTH, HEIGHT), STRENGTHS[VideoStabilisation.HIGH])
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder) / "path", PATH, WIDTH, HEIGHT, path)
        warper = Warper(Path(folder) / "path")
        for pixel_format, kind, factor in (("yuv420p", np.uint8, 1), ("yuv444p10le", np.uint16, 4)):
            for number, luma in enumerate(lumas[:6]):
                frame = VideoFrame(WIDTH, HEIGHT, pixel_format)
                for plane in frame.planes:
                    values = luma[: plane.height, : plane.width].astype(kind) * factor
                    lines = np.zeros((plane.height, plane.line_size // values.itemsize), kind)
                    lines[:, : plane.width] = values
                    plane.update(lines.tobytes())
                warper.warp(frame, number)
                for plane in frame.planes:
                    digest.update(bytes(plane))
    print(
        *(hashlib.sha256(part).hexdigest() for part in (motion.tobytes(), path.tobytes())), digest.hexdigest()
    )


if __name__ == "__main__":
    main()
