"""Which filters a mode means, given how noisy the video is.

All filters give the same bits on every CPU class and, with the frames before and after that are declared here, the same
pixels at a segment's seam as in the middle of one run (docs/picture.md). Denoising comes first, on the noise that was measured;
then shadows, whose noise is gone; then sharpening, which noise would be sharpened by; bands last, which both make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from videoprocess_server.enhance.denoising import Denoising, denoise
from videoprocess_server.enhance.finishing import deband, lift_shadows, sharpen
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Filters in FFmpeg's syntax, or of our own in the same, and the frames they look at around each one."""

    filters: tuple[str, ...]
    pre_roll_frames: int
    post_roll_frames: int


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What a mode does by itself; strengths that are asked for replace it."""

    denoising: Denoising | None = None
    #: of luma, where it is clean and where it was denoised
    sharpen_clean: float = 0.0
    sharpen_denoised: float = 0.0
    deband: float = 0.0
    lifts_shadows: bool = False


#: a clean clip keeps 46 dB with the first; the second costs less than 0.5 dB after denoising. After denoising more than 8 bits
#: are not sharpened: the least that cas does costs 1 dB
_NATURAL: Final = Mode(denoising=Denoising(), sharpen_clean=0.15, sharpen_denoised=0.1)
_NIGHT: Final = Mode(
    denoising=Denoising(gain=1.25, radius=6),
    sharpen_clean=0.1,
    sharpen_denoised=0.1,
    deband=0.3,
    lifts_shadows=True,
)

#: a mode's row: adding one is one line here and one in GetCapabilities' test
SUPPORTED_MODES: Final[Mapping[OperationMode, Mode]] = {
    OperationMode.NORMAL: _NATURAL,
    OperationMode.VIDEO: _NATURAL,
    OperationMode.NIGHT: _NIGHT,
    OperationMode.SLOW_MOTION: _NATURAL,
    OperationMode.SUPER_STAB: _NATURAL,
    OperationMode.PROFESSIONAL_VIDEO: Mode(),
    OperationMode.HIGH_FRAME_RATE: _NATURAL,
}


def build_chain(setting: ModeSetting, noise: NoiseEstimate, bit_depth: int, *, is_hdr: bool = False) -> Chain:
    """Chooses the filters.

    Args:
        setting: its mode is one of `SUPPORTED_MODES`.
        noise: of the source, in code values of 255.
        bit_depth: of the frames that come in, bits a sample.
        is_hdr: whether they are PQ or HLG, whose shadows are left as they are.

    Returns:
        A chain without filters where nothing is to be done.

    Raises:
        KeyError: the mode is not supported; what is not is refused when it is asked for.
    """
    mode = SUPPORTED_MODES[setting.operation_mode]
    denoising, roll = denoise(mode.denoising, setting.denoise_strength, noise, bit_depth)
    filters = (
        *denoising,
        *(lift_shadows(bit_depth) if mode.lifts_shadows and not is_hdr else ()),
        *sharpen(_sharpening(mode, setting.sharpen_strength, bit_depth, denoised=bool(denoising)), bit_depth),
        *deband(mode.deband if setting.deband_strength is None else setting.deband_strength, bit_depth),
    )
    return Chain(filters=filters, pre_roll_frames=roll, post_roll_frames=roll)


def _sharpening(mode: Mode, strength: float | None, bit_depth: int, *, denoised: bool) -> float:
    if strength is not None:
        return strength
    if not denoised:
        return mode.sharpen_clean
    return mode.sharpen_denoised if bit_depth == 8 else 0.0
