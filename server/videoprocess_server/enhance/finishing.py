"""What comes after denoising: shadows, sharpening, bands."""

from __future__ import annotations

from typing import Final

from videoprocess_server.enhance.formats import keep_planar

#: unsharp's amount on luma at a strength of 1
_MOST_AMOUNT: Final = 1.0
#: deband's threshold at a strength of 1, a share of full scale: steps of up to 6 of 255 are smoothed
_MOST_BAND: Final = 0.025
#: pixels around that deband compares with
_BAND_RANGE: Final = 16
#: by how many code values of 255 shadows are lifted at most, at a quarter of the way from black to white
SHADOW_LIFT: Final = 10


def sharpen(strength: float, bit_depth: int) -> tuple[str, ...]:
    """Sharpen luma.

    FFmpeg's unsharp does nothing to more than 8 bits; contrast adaptive sharpening does.

    Args:
        strength: 0 (off) to 1.
        bit_depth: of the frames.
    """
    if not strength:
        return ()
    if bit_depth == 8:
        return (f"unsharp=lx=5:ly=5:la={strength * _MOST_AMOUNT:.2f}:ca=0",)
    return (f"cas=strength={strength:.2f}:planes=1",)


def deband(strength: float, bit_depth: int) -> tuple[str, ...]:
    """Smooth small steps between flat areas.

    deband has no 4:2:0 of 10 bits (FFmpeg 8.1.2): a format must be named after it, or the picture gets another one.

    Args:
        strength: 0 (off) to 1.
        bit_depth: of the frames.
    """
    if not strength:
        return ()
    threshold = ":".join(f"{plane}thr={strength * _MOST_BAND:.5f}" for plane in (1, 2, 3))
    return (f"deband={threshold}:range={_BAND_RANGE}:blur=1", keep_planar(bit_depth))


def lift_shadows(bit_depth: int) -> tuple[str, ...]:
    """Lift shadows: black and white stay, and so does their order; limited range is assumed, and in full range darker stays too.

    Args:
        bit_depth: of the frames.
    """
    scale = 2 ** (bit_depth - 8)
    share = f"clip((val-{16 * scale})/{219 * scale},0,1)"
    # u(1 - u)^3 is at most 27/256, at a quarter. What comes out is cut to a whole number: a half more rounds it.
    lift = SHADOW_LIFT * scale * 256 / 27
    return (f"lutyuv=y=val+0.5+{lift:.4f}*{share}*(1-{share})*(1-{share})*(1-{share})",)
