"""Pixel formats that stages of our own take."""

from __future__ import annotations

from typing import Final

#: planes of luma and colour differences, by the most bits a sample; what is none of these becomes the most alike
_PLANAR: Final = (
    (8, ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv440p", "yuvj440p", "gray")),
    (10, ("yuv420p10le", "yuv422p10le", "yuv444p10le", "gray10le")),
    (12, ("yuv420p12le", "yuv422p12le", "yuv444p12le", "gray12le")),
    (16, ("yuv420p16le", "yuv422p16le", "yuv444p16le", "gray16le")),
)


def keep_planar(bit_depth: int) -> str:
    """The stage that passes planar frames on as they are and converts all others."""
    names = next(names for bits, names in _PLANAR if bit_depth <= bits)
    return f"format=pix_fmts={'|'.join(names)}"
