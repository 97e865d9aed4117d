"""The brands of a file: those that a new picture makes untrue are left out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from videoprocess_server.media.iso.boxes import U32, Parts, build
from videoprocess_server.media.iso.movie import Movie

#: by brand: the four characters of which one must be in a sample entry, or be its type
_CLAIMS: Final = {
    "av01": (b"av01",),
    "avc1": (b"avc1", b"avc2", b"avc3", b"avc4"),
    "hvc1": (b"hvc1", b"hev1"),
    "vp09": (b"vp09",),
    "dby1": (b"dvcC", b"dvvC", b"dvwC", b"ac-3", b"ec-3", b"ac-4"),
}
#: brands of files in fragments
_FRAGMENTED: Final = frozenset(
    {
        "dash",
        "msdh",
        "msix",
        "cmfc",
        "cmf2",
        "cmff",
        "cmfl",
        "cmfs",
        "cmaf",
        "dsms",
        "lmsg",
        "sims",
        "risx",
        "hlsf",
    }
)
_PLAIN: Final = "isom"


def build_brands(
    movie: Movie,
    new_entry: bytes,
    replaced: Sequence[bytes],
    kept: Sequence[bytes],
    false_brands: Collection[str],
) -> Parts:
    """The ftyp of a new file; none where the source has none.

    Args:
        movie: the source.
        new_entry: the new picture's sample entry.
        replaced: those that are gone.
        kept: those of all other tracks.
        false_brands: brands to leave out in any case.
    """
    if not movie.ftyp:
        return []
    false = {
        brand
        for brand, claims in _CLAIMS.items()
        if _holds(claims, replaced) and not _holds(claims, [new_entry, *kept])
    }
    false |= {*false_brands, *(_FRAGMENTED if movie.is_fragmented else ())}
    brands = (movie.major_brand, *movie.compatible_brands)
    if not false.intersection(brands):
        return [movie.ftyp]
    compatible = [brand for brand in movie.compatible_brands if brand not in false]
    major = movie.major_brand
    if major in false:
        major = next(iter(compatible), _PLAIN)
        compatible = compatible or [_PLAIN]
    names = b"".join(brand.encode("latin-1") for brand in compatible)
    return build(b"ftyp", major.encode("latin-1"), U32.pack(movie.minor_version), names)


def _holds(claims: Sequence[bytes], entries: Sequence[bytes]) -> bool:
    return any(claim in entry for claim in claims for entry in entries)
