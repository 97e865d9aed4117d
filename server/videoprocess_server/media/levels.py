"""Profiles and levels: what the source declares, and the lowest that a result needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

#: side of H.264's macroblock in pixels
_MACROBLOCK: Final = 16
#: reference pictures that x264's preset and its B pyramid need
_REFERENCES: Final = 4
#: by which the High profiles may exceed the bit rates of the table (ITU-T H.264, A.3.3)
_HIGH_PROFILE_RATE: Final = Fraction(5, 4)
_BITS_PER_KILOBIT: Final = 1000


@dataclass(frozen=True)
class Level:
    """One row of a standard's table of levels."""

    #: as encoders take it, e.g. "4.1"
    name: str
    #: as parameter sets hold it
    code: int
    #: macroblocks, or luma samples in H.265, of a second
    per_second: int
    #: the same of a picture
    per_picture: int
    #: macroblocks of all reference pictures; 0 where a picture's size says it
    references: int
    #: 1000 bits per second, and in the decoder's buffer
    max_kilobits: int
    buffer_kilobits: int

    def buffer_bits(self, *, high_profile: bool) -> int:
        """Give the bits that a decoder's buffer holds; `high_profile` as `choose_level` takes it."""
        share = _HIGH_PROFILE_RATE if self.references and high_profile else Fraction(1)
        return int(self.buffer_kilobits * share * _BITS_PER_KILOBIT)

    def rate_bits(self, *, high_profile: bool) -> int:
        """Give the bits per second at most."""
        share = _HIGH_PROFILE_RATE if self.references and high_profile else Fraction(1)
        return int(self.max_kilobits * share * _BITS_PER_KILOBIT)


#: ITU-T H.264, table A-1
H264_LEVELS: Final = tuple(
    Level(*row)
    for row in (
        ("1.0", 10, 1_485, 99, 396, 64, 175),
        ("1.1", 11, 3_000, 396, 900, 192, 500),
        ("1.2", 12, 6_000, 396, 2_376, 384, 1_000),
        ("1.3", 13, 11_880, 396, 2_376, 768, 2_000),
        ("2.0", 20, 11_880, 396, 2_376, 2_000, 2_000),
        ("2.1", 21, 19_800, 792, 4_752, 4_000, 4_000),
        ("2.2", 22, 20_250, 1_620, 8_100, 4_000, 4_000),
        ("3.0", 30, 40_500, 1_620, 8_100, 10_000, 10_000),
        ("3.1", 31, 108_000, 3_600, 18_000, 14_000, 14_000),
        ("3.2", 32, 216_000, 5_120, 20_480, 20_000, 20_000),
        ("4.0", 40, 245_760, 8_192, 32_768, 20_000, 25_000),
        ("4.1", 41, 245_760, 8_192, 32_768, 50_000, 62_500),
        ("4.2", 42, 522_240, 8_704, 34_816, 50_000, 62_500),
        ("5.0", 50, 589_824, 22_080, 110_400, 135_000, 135_000),
        ("5.1", 51, 983_040, 36_864, 184_320, 240_000, 240_000),
        ("5.2", 52, 2_073_600, 36_864, 184_320, 240_000, 240_000),
        ("6.0", 60, 4_177_920, 139_264, 696_320, 240_000, 240_000),
        ("6.1", 61, 8_355_840, 139_264, 696_320, 480_000, 480_000),
        ("6.2", 62, 16_711_680, 139_264, 696_320, 800_000, 800_000),
    )
)
#: ITU-T H.265, tables A.8 and A.9, main tier; parameter sets hold 30 times the number
HEVC_LEVELS: Final = tuple(
    Level(name, code, per_second, per_picture, 0, kilobits, kilobits)
    for name, code, per_second, per_picture, kilobits in (
        ("1.0", 30, 552_960, 36_864, 128),
        ("2.0", 60, 3_686_400, 122_880, 1_500),
        ("2.1", 63, 7_372_800, 245_760, 3_000),
        ("3.0", 90, 16_588_800, 552_960, 6_000),
        ("3.1", 93, 33_177_600, 983_040, 10_000),
        ("4.0", 120, 66_846_720, 2_228_224, 12_000),
        ("4.1", 123, 133_693_440, 2_228_224, 20_000),
        ("5.0", 150, 267_386_880, 8_912_896, 25_000),
        ("5.1", 153, 534_773_760, 8_912_896, 40_000),
        ("5.2", 156, 1_069_547_520, 8_912_896, 60_000),
        ("6.0", 180, 1_069_547_520, 35_651_584, 60_000),
        ("6.1", 183, 2_139_095_040, 35_651_584, 120_000),
        ("6.2", 186, 4_278_190_080, 35_651_584, 240_000),
    )
)


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a result asks of a decoder."""

    width: int
    height: int
    frame_rate: Fraction
    #: bits per second, and in the decoder's buffer
    max_rate: int
    buffer_size: int


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a track's parameter sets declare; "" and 0 where they cannot be read."""

    #: x264's name of the profile, of H.264 only
    profile: str = ""
    #: as `Level.code`
    level_code: int = 0


#: profile_idc → x264's name; High 10 and above follow from the pixel format
_H264_PROFILES: Final = {66: "baseline", 77: "main", 88: "main", 100: "high"}
#: bytes of avcC and hvcC that hold profile and level
_AVCC_PROFILE, _AVCC_LEVEL = 1, 3
_HVCC_LEVEL: Final = 12


def read_declared(codec: str, configuration: bytes) -> Declared:
    """Read profile and level from a sample entry's avcC or hvcC; Matroska holds the same bytes.

    Args:
        codec: FFmpeg's name.
        configuration: FFmpeg's extradata of the track.
    """
    if configuration[:1] != b"\x01":  # both begin with their version
        return Declared()
    if codec == "h264" and len(configuration) > _AVCC_LEVEL:
        profile = _H264_PROFILES.get(configuration[_AVCC_PROFILE], "")
        return Declared(profile=profile, level_code=configuration[_AVCC_LEVEL])
    if codec == "hevc" and len(configuration) > _HVCC_LEVEL:
        return Declared(level_code=configuration[_HVCC_LEVEL])
    return Declared()


def choose_level(codec: str, declared: Declared, demand: Demand, *, high_profile: bool) -> Level | None:
    """Choose the source's level where the result fits it, else the lowest that it fits, None where it fits none.

    Args:
        codec: of the result.
        declared: of the source, of the same codec.
        demand: of the result.
        high_profile: of H.264: whether the profile is High or above.
    """
    levels = H264_LEVELS if codec == "h264" else HEVC_LEVELS
    fitting = [
        level
        for level in levels
        if _picture_fits(codec, level, demand)
        and demand.max_rate <= level.rate_bits(high_profile=high_profile)
        and demand.buffer_size <= level.buffer_bits(high_profile=high_profile)
    ]
    wanted = (level for level in fitting if level.code == declared.level_code)
    return next(wanted, fitting[0] if fitting else None)


def _picture_fits(codec: str, level: Level, demand: Demand) -> bool:
    """Compare size and rate; no side may be longer than the root of eight times the picture's limit."""
    sides: Sequence[int] = (demand.width, demand.height)
    if codec == "h264":
        sides = [ceil(side / _MACROBLOCK) for side in sides]
    area = sides[0] * sides[1]
    return (
        area <= level.per_picture
        and area * demand.frame_rate <= level.per_second
        and max(sides) ** 2 <= 8 * level.per_picture
        and (not level.references or area * _REFERENCES <= level.references)
    )
