"""What one worker needs of the machine while it makes segments."""

from __future__ import annotations

_MEBIBYTE = 1 << 20
#: bits a sample up to which a sample is one byte
_ONE_BYTE_DEPTH = 8

#: (bytes of any worker, bytes per pixel of the picture), for 8 bits and for more. Peak resident memory of whole encode
#: tasks over 60 frames, denoised, was with libx264 113 MiB at 640x360, 253 at 1280x720, 468 at 1920x1080 and 1635 at
#: 3840x2160; with libx265 138, 286, 515 and 1716; with libx265 and 10 bits 185, 423, 796 and 2723. The lines lie 8 to
#: 25 % above all of these, for sources that keep more reference frames.
_ONE_BYTE_SAMPLES = (110 * _MEBIBYTE, 250)
_TWO_BYTE_SAMPLES = (150 * _MEBIBYTE, 400)


def estimate_worker_bytes(width: int, height: int, bit_depth: int) -> int:
    """Estimate the memory that an encoding worker takes.

    Args:
        width: pixels of the larger of the source's and the result's picture.
        height: as `width`.
        bit_depth: bits a sample of the source or of the result, whichever has more.
    """
    fixed, per_pixel = _ONE_BYTE_SAMPLES if bit_depth <= _ONE_BYTE_DEPTH else _TWO_BYTE_SAMPLES
    return fixed + per_pixel * width * height


def worker_cores(encoder_threads: int) -> int:
    """Return how many cores a worker keeps busy: decoder, filters and encoder take turns, only the encoder may have more."""
    return max(1, encoder_threads)
