"""Makes frames before and after of three clips, through a real service: docs/results/before_after.

    python scripts/before_after.py [--night CLIP] [--out FOLDER]

The first clip gets camera-like noise and is encoded again by the ffmpeg program; the second is seen as recorded; the third
is any dark clip, in the mode NIGHT. Beside the frames lies each job's strip (the ANALYZE stream).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT / "tests" / "clips"
ADDRESS = "127.0.0.1:50089"
BIN = Path(sys.executable).parent
#: noise of the ffmpeg program's filter, uniform: 24 is a deviation of about 8 to 10 code values
NOISE = "noise=alls=24:allf=t"


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--night", type=Path, default=CLIPS / "flir_thermal_vfr_7fps_bframes.mp4")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "before_after")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        noisy = work / "noisy.mp4"
        _ffmpeg(
            "-ss", "3", "-i", CLIPS / "dog_720p30_10s.mp4", "-frames:v", "45", "-vf", NOISE, "-c:v", "libx264",
            "-crf", "16", "-an", noisy,
        )  # fmt: skip
        jobs = [
            ("noise", noisy, ["--mode", "video"], 0.8),
            ("as_recorded", CLIPS / "h264_fullrange_webcam.mkv", ["--mode", "normal"], 1.5),
            ("night", options.night, ["--mode", "night"], 0.5),
        ]
        server = subprocess.Popen(
            [BIN / "videoprocess-server", "serve", "--listen", ADDRESS, "--data-dir", work / "data"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(5)
            for name, clip, flags, seconds in jobs:
                _make(name, clip, flags, seconds, work, options.out)
        finally:
            server.terminate()
            server.wait()


def _make(name: str, clip: Path, flags: list[str], seconds: float, work: Path, out: Path) -> None:
    result = work / f"{name}{clip.suffix}"
    streams = ("--stream", "video", "--stream", "analyze")
    command = [BIN / "videoprocess", "enhance", clip, "-o", result, "--target", ADDRESS, *flags, *streams]
    subprocess.run(command, check=True)
    for label, video in (("before", clip), ("after", result)):
        picture = out / f"{name}_{label}.jpg"
        _ffmpeg("-ss", str(seconds), "-i", video, "-frames:v", "1", "-q:v", "2", picture)
    strip = next(work.glob(f"{name}_comparison.jpg"))
    (out / f"{name}_strip.jpg").write_bytes(strip.read_bytes())


def _ffmpeg(*arguments: object) -> None:
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
