"""Prints digests of what each mode makes of noisy frames; with a number, FFmpeg believes that the processor has those features only."""

from __future__ import annotations

import hashlib
import sys
from fractions import Fraction

from cpu_independence import force_cpu_flags
from frame_pictures import draw_frame
from videoprocess_server.enhance.chains import SUPPORTED_MODES, build_chain
from videoprocess_server.media.filters import run_filters
from videoprocess_server.media.noise import estimate_frames
from videoprocess_server.media.planes import read_plane
from videoprocess_server.model.settings_snapshot import ModeSetting

SIZE = (334, 190)
FORMATS = (("yuv420p", 8), ("yuv422p10le", 10))


def main() -> None:
    if len(sys.argv) > 1:
        force_cpu_flags(int(sys.argv[1]))
    for pixel_format, bits in FORMATS:
        frames = [draw_frame(number, *SIZE, pixel_format, noise_sigma=8) for number in range(4)]
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 30)
        for mode in SUPPORTED_MODES:
            noise = estimate_frames(frames)
            setting = ModeSetting(operation_mode=mode, deband_strength=0.5)
            stages = (*build_chain(setting, noise, bits).filters, f"format=pix_fmts={pixel_format}")
            digest = hashlib.sha256(repr(noise).encode())
            for frame in run_filters(frames, stages, Fraction(1, 30), ""):
                for index in range(len(frame.planes)):
                    digest.update(read_plane(frame, index).tobytes())
            print(mode.name, pixel_format, digest.hexdigest())


if __name__ == "__main__":
    main()
