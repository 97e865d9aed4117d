"""What one worker needs of the machine while it makes segments."""

from __future__ import annotations

from collections.abc import Sequence

_MEBIBYTE = 1 << 20
#: bits a sample up to which a sample is one byte
_ONE_BYTE_DEPTH = 8

#: (bytes of any worker, bytes per pixel of the picture), for 8 bits and for more. Peak resident memory of whole encode
#: tasks over 60 frames, denoised, was with libx264 113 MiB at 640x360, 253 at 1280x720, 468 at 1920x1080 and 1635 at
#: 3840x2160; with libx265 138, 286, 515 and 1716; with libx265 and 10 bits 185, 423, 796 and 2723. The lines lie 8 to
#: 25 % above all of these, for sources that keep more reference frames.
_ONE_BYTE_SAMPLES = (110 * _MEBIBYTE, 250)
_TWO_BYTE_SAMPLES = (150 * _MEBIBYTE, 400)
#: of each encoder beyond the first: H.265 beside H.264 took 205 MiB more at 1280x720, a proxy 20 to 55
_FURTHER_BYTES = 40 * _MEBIBYTE
#: a watermark over all of a picture of 3840x2160 took 150 MiB more
_WATERMARK_BYTES_PER_PIXEL = 20
#: where frames are made up: 47 to 66 were measured from 1280x720 to 3840x2160, of 8 and 10 bits
_INTERPOLATION_BYTES_PER_PIXEL = 75


def estimate_worker_bytes(
    pixels: int,
    bit_depth: int,
    *,
    further_pixels: Sequence[int] = (),
    has_watermark: bool = False,
    interpolates: bool = False,
) -> int:
    """Estimate the memory that an encoding worker takes.

    Args:
        pixels: of the larger of the source's and the result's picture.
        bit_depth: bits a sample of the source or of the result, whichever has more.
        further_pixels: of each picture that is encoded beside that one.
        has_watermark: whether one is burnt in.
        interpolates: whether frames are made up.
    """
    fixed, per_pixel = _ONE_BYTE_SAMPLES if bit_depth <= _ONE_BYTE_DEPTH else _TWO_BYTE_SAMPLES
    further = sum(_FURTHER_BYTES + per_pixel * more for more in further_pixels)
    more = _WATERMARK_BYTES_PER_PIXEL * has_watermark + _INTERPOLATION_BYTES_PER_PIXEL * interpolates
    return fixed + (per_pixel + more) * pixels + further


def worker_cores(encoder_threads: int) -> int:
    """Return how many cores a worker keeps busy: decoder, filters and encoder take turns, only the encoder may have more."""
    return max(1, encoder_threads)
