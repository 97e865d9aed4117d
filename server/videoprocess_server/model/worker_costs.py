"""What one worker needs of the machine while it makes segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.settings_snapshot import ModeSetting

_MEBIBYTE = 1 << 20
#: bits a sample up to which a sample is one byte
_ONE_BYTE_DEPTH = 8

#: (bytes of any worker, bytes per pixel of the picture), for 8 bits and for more. Peak resident memory of whole encode
#: tasks over 60 frames, not denoised, was with libx264 113 MiB at 640x360, 253 at 1280x720, 468 at 1920x1080 and 1635 at
#: 3840x2160; with libx265 138, 286, 515 and 1716; with libx265 and 10 bits 185, 423, 796 and 2723. The lines lie 8 to
#: 25 % above all of these, for sources that keep more reference frames.
_ONE_BYTE_SAMPLES = (110 * _MEBIBYTE, 250)
_TWO_BYTE_SAMPLES = (150 * _MEBIBYTE, 400)
#: of each encoder beyond the first: H.265 beside H.264 took 205 MiB more at 1280x720, a proxy 20 to 55
_FURTHER_BYTES = 40 * _MEBIBYTE
#: a watermark over all of a picture of 3840x2160 took 150 MiB more
_WATERMARK_BYTES_PER_PIXEL = 20
#: of the denoiser: of each picture that it has in hand, of 8 bits and of more, and of what it works with.
#: 4 neighbours a side took 101 to 124 from 1280x720 to 3840x2160 of 8 bits and 120 of 10 bits, 6 took 143. 4:4:4 takes 45 more
_DENOISED_ONE_BYTE, _DENOISED_TWO_BYTES = 8, 9
_DENOISING_BYTES_PER_PIXEL = 44
#: of the noise that a video has nothing is known before there is a plan, so a mode that may denoise counts as if it did.
#: Neighbours on each side
_NEIGHBOURS = 4
_NEIGHBOURS_OF_MODE: Mapping[OperationMode, int] = {
    OperationMode.NIGHT: 6,
    OperationMode.PROFESSIONAL_VIDEO: 0,
}
#: OpenCV, and where frames are warped and what is left of the shake is measured: 38 MiB at 1280x720, 26 at 1920x1080
_STABILISATION = (30 * _MEBIBYTE, 15)
#: where frames are made up: 47 to 66 were measured from 1280x720 to 3840x2160, of 8 and 10 bits
_INTERPOLATION_BYTES_PER_PIXEL = 75


def estimate_worker_bytes(
    pixels: int,
    bit_depth: int,
    *,
    further_pixels: Sequence[int] = (),
    has_watermark: bool = False,
    interpolates: bool = False,
    neighbours: int = 0,
    stabilises: bool = False,
) -> int:
    """Estimate the memory that an encoding worker takes.

    Args:
        pixels: of the larger of the source's and the result's picture.
        bit_depth: bits a sample of the source or of the result, whichever has more.
        further_pixels: of each picture that is encoded beside that one.
        has_watermark: whether one is burnt in.
        interpolates: whether frames are made up.
        neighbours: pictures on each side that each is denoised with; 0 where none is.
        stabilises: whether frames are warped.
    """
    fixed, per_pixel = _ONE_BYTE_SAMPLES if bit_depth <= _ONE_BYTE_DEPTH else _TWO_BYTE_SAMPLES
    further = sum(_FURTHER_BYTES + per_pixel * more for more in further_pixels)
    more = _WATERMARK_BYTES_PER_PIXEL * has_watermark + _INTERPOLATION_BYTES_PER_PIXEL * interpolates
    if stabilises:
        fixed += _STABILISATION[0]
        more += _STABILISATION[1]
    if neighbours:
        each = _DENOISED_ONE_BYTE if bit_depth <= _ONE_BYTE_DEPTH else _DENOISED_TWO_BYTES
        more += _DENOISING_BYTES_PER_PIXEL + each * (2 * neighbours + 1)
    return fixed + (per_pixel + more) * pixels + further


def most_neighbours(setting: ModeSetting) -> int:
    """Tell how many pictures on each side a setting may denoise each picture with; 0 where it never denoises."""
    by_mode = _NEIGHBOURS_OF_MODE.get(setting.operation_mode, _NEIGHBOURS)
    if setting.denoise_strength is None:
        return by_mode
    return (by_mode or _NEIGHBOURS) if setting.denoise_strength else 0


def worker_cores(encoder_threads: int) -> int:
    """Return how many cores a worker keeps busy: decoder, filters and encoder take turns, only the encoder may have more."""
    return max(1, encoder_threads)
