"""Prints figures of a few frames, unrounded; the environment may tell numpy and its BLAS that the processor is an older one."""

from __future__ import annotations

import hashlib

import numpy as np

from frame_pictures import draw_frame
from videoprocess_server.media.measure.pictures import laplacian_square, luma_of, ssim, xpsnr_db
from videoprocess_server.media.noise import NoiseMeter

SIZE = (734, 490)


def main() -> None:
    for pixel_format in ("yuv420p", "yuv422p10le"):
        frames = [draw_frame(number, *SIZE, pixel_format, noise_sigma=number) for number in range(1, 9)]
        meter = NoiseMeter()
        for frame in frames:
            meter.add(frame)
            (one, bits), (other, _) = luma_of(frames[0]), luma_of(frame)
            figures = laplacian_square(other, bits), ssim(one, other, bits), xpsnr_db(one, other, bits)
            print(*(repr(figure).replace(" ", "") for figure in figures))
        print(repr(meter.estimate()).replace(" ", ""))
    print(hashlib.sha256(_floating().tobytes()).hexdigest())


def _floating() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """What does depend on the processor: it tells whether there was another one."""
    values = np.random.default_rng(1).normal(size=(200, 200)).astype(np.float32)
    product: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = values @ values
    return product


if __name__ == "__main__":
    main()
