"""Which filters a mode means, given how noisy the video is.

All filters give the same bits on every CPU class and, with the frames before and after that are declared here, the same
pixels at a segment's seam as in the middle of one run (docs/picture.md). Denoising is first in
time (atadenoise averages what a pixel is in the frames around, where it hardly changes), then in the picture, because
what moves has no like in its neighbours: non-local means for 8 bits, for more bits an edge-preserving blur, since
FFmpeg's nlmeans would quietly turn those into 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting

#: code values of 255 below which a plane is left as it is: clean footage measures at most 0.4, and denoising a noise of
#: 1 wins 1 to 3 dB of 48
CLEAN_SIGMA: Final = 1.5
#: above it an estimate is not believed
MOST_SIGMA: Final = 40.0

#: frames atadenoise averages; it looks at half of the others before and half after (reference: measured at seams)
_WINDOW: Final = 9
#: atadenoise's limits as multiples of the deviation of a difference of two frames, sigma * sqrt(2): of one difference,
#: and of their sum. More wins on still pictures and loses on moving ones.
_ONE_DIFFERENCE: Final = 2.0
_SUM_OF_DIFFERENCES: Final = 3.0
_SQRT_2: Final = 1.4142
#: the largest FFmpeg takes for both; both are shares of full scale
_MOST_ONE: Final = 0.3
_MOST_SUM: Final = 5.0

#: nlmeans' strength in code values, a multiple of the noise before atadenoise; patches and search of 3x3 pixels
_NLMEANS_STRENGTH: Final = 0.55
_NLMEANS_LEAST: Final = 1.0
#: yaepblur's s is a variance: a multiple of the noise's before atadenoise
_BLUR_VARIANCE: Final = 2.5

#: unsharp's amount on luma: a clean clip keeps 46 dB with the first; the second costs 0.4 dB of 6 at a noise of 5. Of
#: more bits a clean clip keeps 46 dB as well; after denoising cas would cost 1 dB of 6 and is left out
_SHARPEN_CLEAN: Final = 0.15
_SHARPEN_DENOISED: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Filters in FFmpeg's syntax and the frames they look at around each one."""

    filters: tuple[str, ...]
    pre_roll_frames: int
    post_roll_frames: int


def build_chain(setting: ModeSetting, noise: NoiseEstimate, bit_depth: int) -> Chain:
    """Chooses the filters.

    Args:
        setting: its mode is one of `SUPPORTED_MODES`.
        noise: of the source, in code values of 255.
        bit_depth: of the frames that come in, bits a sample.

    Returns:
        None where nothing is to be done.

    Raises:
        KeyError: the mode is not supported; what is not is refused when it is asked for.
    """
    return SUPPORTED_MODES[setting.operation_mode](noise, bit_depth)


def _natural(noise: NoiseEstimate, bit_depth: int) -> Chain:
    """Denoise as much as was measured and sharpen a little."""
    luma, blue, red = (_believed(sigma) for sigma in (noise.sigma_y, noise.sigma_u, noise.sigma_v))
    if not luma and not blue and not red:
        return Chain(filters=_sharpen(bit_depth, denoised=False), pre_roll_frames=0, post_roll_frames=0)
    spatial = _non_local_means if bit_depth == 8 else _edge_preserving_blur
    filters = (
        _average_over_time(luma, blue, red),
        *spatial(luma, max(blue, red), bit_depth),
        *_sharpen(bit_depth, denoised=luma > 0),
    )
    return Chain(filters=filters, pre_roll_frames=_WINDOW // 2, post_roll_frames=_WINDOW // 2)


def _believed(sigma: float) -> float:
    """The noise to remove: none of what may be texture, and no more than cameras make."""
    return min(sigma, MOST_SIGMA) if sigma >= CLEAN_SIGMA else 0.0


def _average_over_time(luma: float, blue: float, red: float) -> str:
    """Average each pixel with those of the frames around that hardly differ.

    D. Bartovcak, M. Vrankic, "FPGA implementation of adaptive temporal averaging", 2012. A plane without noise is left
    out: limits of 0 leave one of 8 bits as it is, and make one of 10 bits unrecognisable (FFmpeg 8.1.2).
    """
    limits, mask = [], 0
    for plane, sigma in enumerate((luma, blue, red)):
        if not sigma:
            continue
        mask |= 1 << plane
        difference = sigma * _SQRT_2 / 255
        one, total = (
            min(_ONE_DIFFERENCE * difference, _MOST_ONE),
            min(_SUM_OF_DIFFERENCES * difference, _MOST_SUM),
        )
        limits.append(f"{plane}a={one:.4f}:{plane}b={total:.4f}")
    return f"atadenoise=s={_WINDOW}:p={mask}:a=p:{':'.join(limits)}"


def _non_local_means(luma: float, chroma: float, _bit_depth: int) -> tuple[str, ...]:
    """Average pixels whose surroundings are alike.

    A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2005. A search of 1 finds the pixel
    itself only and leaves the plane as it is, so luma and chroma get strengths of their own.
    """
    filters = []
    if luma:
        filters.append(f"nlmeans=s={max(_NLMEANS_LEAST, luma * _NLMEANS_STRENGTH):.2f}:p=3:r=3:rc=1")
    if chroma:
        filters.append(f"nlmeans=s={max(_NLMEANS_LEAST, chroma * _NLMEANS_STRENGTH):.2f}:p=3:r=1:rc=3")
    return tuple(filters)


def _edge_preserving_blur(luma: float, chroma: float, bit_depth: int) -> tuple[str, ...]:
    """Move pixels towards the mean of 3x3, the less the more those vary.

    J.-S. Lee, "Digital image enhancement and noise filtering by use of local statistics", 1980. FFmpeg wants the variance
    in the frame's own code values.
    """
    scale = _BLUR_VARIANCE * 4 ** (bit_depth - 8)
    planes = ((1, luma), (6, chroma))
    return tuple(f"yaepblur=r=1:p={mask}:s={round(scale * sigma**2)}" for mask, sigma in planes if sigma)


def _sharpen(bit_depth: int, *, denoised: bool) -> tuple[str, ...]:
    """Sharpen luma a little. FFmpeg's unsharp does nothing to more than 8 bits; contrast adaptive sharpening does."""
    if bit_depth == 8:
        return (f"unsharp=lx=5:ly=5:la={_SHARPEN_DENOISED if denoised else _SHARPEN_CLEAN}:ca=0",)
    return () if denoised else ("cas=strength=0:planes=1",)


#: a mode's row: adding one is one line here and one in GetCapabilities' test
SUPPORTED_MODES: Final[Mapping[OperationMode, Callable[[NoiseEstimate, int], Chain]]] = {
    OperationMode.NORMAL: _natural,
    OperationMode.VIDEO: _natural,
}
