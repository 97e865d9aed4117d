"""Which of the boxes that describe a source's picture hold for the new one, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from videoprocess_server.media.iso.sample_entries import extension_kinds
from videoprocess_server.model.losses import Loss
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.plan import NotKept, Plan, Rendition

_Holds = Callable[[MediaInfo, Plan, Rendition], bool]


def _same_colour(media: MediaInfo, _plan: Plan, rendition: Rendition) -> bool:
    return rendition.encoder.colour == media.video.colour


def _same_pixels(media: MediaInfo, _plan: Plan, rendition: Rendition) -> bool:
    return rendition.encoder.sample_aspect_ratio == media.video.sample_aspect_ratio


def _uncropped(_media: MediaInfo, plan: Plan, _rendition: Rendition) -> bool:
    return not plan.filters.crop


def _same_size(media: MediaInfo, plan: Plan, rendition: Rendition) -> bool:
    size = media.video.width, media.video.height
    return not plan.filters.crop and size == (rendition.encoder.width, rendition.encoder.height)


def _same_fields(_media: MediaInfo, plan: Plan, _rendition: Rendition) -> bool:
    return all(lost.what is not Loss.INTERLACED for lost in plan.not_kept)


def _never(_media: MediaInfo, _plan: Plan, _rendition: Rendition) -> bool:
    return False


#: box → when it holds
_HOLDS: Final[Mapping[str, _Holds]] = {
    **dict.fromkeys(("colr", "mdcv", "clli", "cclv", "amve", "SmDm", "CoLL", "gama", "chrm"), _same_colour),
    "pasp": _same_pixels,
    **dict.fromkeys(("clap", "clef", "prof", "enof"), _same_size),
    "fiel": _same_fields,
    **dict.fromkeys(("st3d", "sv3d", "vexu", "hfov", "camm"), _uncropped),
}
#: of the old codec or the old bytes: they tell nothing of the picture
_OF_THE_CODEC: Final = frozenset(
    {"avcC", "hvcC", "av1C", "vpcC", "vvcC", "esds", "d263", "damr", "glbl", "jp2h", "SGED", "strf"}
    | {"btrt", "bitr", "free", "skip", "tapt", "sinf", "rinf", "uuid"}
)
#: named by the plan where they do not hold
_OF_DOLBY_VISION: Final = frozenset({"dvcC", "dvvC", "dvwC", "hvcE", "avcE"})
