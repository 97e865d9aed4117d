"""What of the processor an encoder may use, where more of it would give other bytes from run to run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from videoprocess_server.model.plan import EncoderPlan

_CPUINFO: Final = Path("/proc/cpuinfo")
_AVX512: Final = "avx512f"
_PARAMETERS: Final = "x264-params"
#: all that every processor with AVX-512 has below it, and that x264 has code for
_BELOW_AVX512: Final = "asm=avx2,fma3,bmi2,lzcnt"
_MACROBLOCK: Final = 16
#: macroblocks that x264's look-ahead (mbtree_propagate_list) takes at once with AVX-512, those beyond a row's end too
_TAKEN_AT_ONCE: Final = 8


def exact_options(encoder: EncoderPlan, options: dict[str, str]) -> dict[str, str]:
    """Give the options that make the same bytes on every run and every x86 processor since SSE4.2.

    With AVX-512 x264 reads memory that nobody wrote, unless a row has a multiple of eight macroblocks: 64x48 gave 7 different
    files in 15 runs, 320x180 gave 15; widths of 128, 640, 1280 and 1920 give the same as with AVX2 and SSE4.2 (measured with the
    build in PyAV 18.1). So the plan, which knows no machine, need not tell.

    Args:
        encoder: of the rendition.
        options: of the plan and of the segment.
    """
    macroblocks = -(-encoder.width // _MACROBLOCK)
    if encoder.encoder != "libx264" or macroblocks % _TAKEN_AT_ONCE == 0 or not _has_avx512():
        return options
    given = options.get(_PARAMETERS)
    return {**options, _PARAMETERS: f"{given}:{_BELOW_AVX512}" if given else _BELOW_AVX512}


@cache
def _has_avx512() -> bool:
    try:
        return _AVX512 in _CPUINFO.read_text().split()
    except OSError:
        return False
