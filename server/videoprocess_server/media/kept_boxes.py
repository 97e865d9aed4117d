"""Which of the boxes that describe a source's picture hold for the new one, too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from videoprocess_server.media.hdr import is_mapped
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


#: of HDR's light; where that was asked to become SDR nothing is lost with them
_OF_LIGHT: Final = frozenset({"mdcv", "clli", "cclv", "amve", "SmDm", "CoLL"})
#: box → when it holds
_HOLDS: Final[Mapping[str, _Holds]] = {
    **dict.fromkeys(("colr", "gama", "chrm", *_OF_LIGHT), _same_colour),
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
#: the encoder's own say the same of the new picture
_REWRITTEN: Final = frozenset({"colr", "pasp", "fiel"})
#: of a second eye's view, which is not encoded; boxes that then say too much
_SECOND_EYE: Final = "lhvC"
_OF_TWO_EYES: Final = frozenset({"vexu", "hfov"})
#: named by the plan where they do not hold
_OF_DOLBY_VISION: Final = frozenset({"dvcC", "dvvC", "dvwC", "hvcE", "avcE"})


def kept_boxes(
    entry: bytes, media: MediaInfo, plan: Plan, rendition: Rendition, carried: Collection[str] = ()
) -> frozenset[str]:
    """Give the kinds of boxes of the source's sample entry that hold for the new picture.

    Args:
        entry: the source's, a whole box.
        media: the source.
        plan: of the result.
        rendition: what the picture becomes.
        carried: kinds whose data the new samples carry, such as Dolby Vision's.
    """
    kinds = extension_kinds(entry)
    second_eye = _SECOND_EYE in kinds
    return frozenset(
        kind
        for kind in kinds
        if kind in carried
        or (_HOLDS.get(kind, _never)(media, plan, rendition) and not (second_eye and kind in _OF_TWO_EYES))
    )


def lost_boxes(
    entry: bytes, media: MediaInfo, plan: Plan, rendition: Rendition, carried: Collection[str] = ()
) -> Iterator[NotKept]:
    """Name the kinds of boxes that do not hold, as one entry; arguments as of `kept_boxes`."""
    kept = kept_boxes(entry, media, plan, rendition, carried)
    lost = {*extension_kinds(entry)} - kept - _OF_THE_CODEC - _OF_DOLBY_VISION - _REWRITTEN
    if is_mapped(media.video.colour, rendition.encoder.colour):
        lost -= _OF_LIGHT
    if lost:
        names = ", ".join(sorted(lost))
        yield NotKept(
            what=Loss.PICTURE_MARKS,
            track_index=media.video.index,
            count=len(lost),
            reason=f"What the source's boxes {names} say of its picture does not hold for the new one.",
        )
