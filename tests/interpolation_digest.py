"""Prints a digest of pictures that are made up; NumPy takes from the environment which of the processor's features it may use."""

from __future__ import annotations

import hashlib
from fractions import Fraction

from frame_pictures import draw_frame
from videoprocess_server.media.interpolate.interpolation import Interpolator, Picture
from videoprocess_server.media.planes import read_plane

if __name__ == "__main__":
    digest = hashlib.sha256()
    for pixel_format in ("yuv420p", "yuv422p10le"):
        earlier, later = (
            Picture.of(draw_frame(number, 250, 142, pixel_format, noise_sigma=4.0, movement=3.0))
            for number in (3, 5)
        )
        for fraction in (Fraction(1, 2), Fraction(2, 7)):
            made = Interpolator().between(earlier, later, fraction)
            for index in range(3):
                digest.update(read_plane(made, index).tobytes())
    print(digest.hexdigest())
