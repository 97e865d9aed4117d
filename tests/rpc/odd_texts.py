"""Texts that callers may name things by: UTF-8 of the kinds that break file names, queries, headers and logs."""

from __future__ import annotations

import random

#: part of every path an id tries to write to: no file of such a name may ever appear
PLANTED = "planted"
MAX_ID_BYTES = 256
SURROGATES = range(0xD800, 0xE000)  # no text that is UTF-8 has them

ODD_IDS = (
    # names that lead elsewhere
    *(
        "/",
        "//",
        ".",
        "..",
        "../..",
        f"../../{PLANTED}",
        f"a/../../../{PLANTED}",
        f"/tmp/{PLANTED}",
        "-rf",
        "~",
    ),
    # what queries, shells, formats and logs give a meaning
    *("'; DROP TABLE videos; --", "_%", "*", "?[a-z]", '"', "%s%n", "%00", "{0}", "${HOME}", "`id`", "\\"),
    # controls, NUL among them
    *("\0", "a\0b", "\t", "\n", "\r\nset-cookie: a", "\x1b[31m", "\x7f", "\x85", " ", "\u2028"),
    # letters that are written in two ways, or lose their case
    *("é", "e\u0301", "\u0301", "ﬁ", "ß", "İ", "\u0131", "Å", "\u212b"),
    # right to left, and what turns the direction round
    *("שלום", "مرحبا", "\u202egpj.mp4", "\u2066a\u2069"),
    # what cannot be seen, and the ends of the planes
    *("\u200b", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\ud7ff", "\ue000", "\U0001f468\u200d\U0001f469"),
    *("\U00010000", "\U0010fffe", "\U0010ffff"),
    # as long as an id may be
    *("x" * 256, "ü" * 128, "\U0010ffff" * 64, "\0" * 256, "/" * 256),
)

#: no video can have one of these
BAD_IDS = ("", "x" * 257, "ü" * 129, "\U0010ffff" * 65, "\0" * 257, "../" * 2000)


def random_id(rng: random.Random) -> str:
    """Draw a text of 1 to 256 bytes from all code points that UTF-8 has."""
    size = rng.choice([1, 2, 7, 64, MAX_ID_BYTES])
    text = ""
    while len(text.encode()) < size:
        text += _random_character(rng)
    return text if len(text.encode()) <= MAX_ID_BYTES else text[:-1]


def _random_character(rng: random.Random) -> str:
    point = rng.randrange(rng.choice([0x80, 0x800, 0x10000, 0x110000]))
    return chr(point if point not in SURROGATES else 0xFFFD)


def junk(rng: random.Random) -> str:
    """Draw what is no id of the service's: odd, random, far too long, or nearly right."""
    return rng.choice(
        [rng.choice(ODD_IDS), rng.choice(BAD_IDS), random_id(rng), "0" * 32, f"{rng.getrandbits(128):032X}"]
    )
