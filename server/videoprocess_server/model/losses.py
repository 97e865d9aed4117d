"""The closed list of what a result may lack of its source. `docs/limits.md` is made from it."""

from __future__ import annotations

from enum import Enum


class Loss(Enum):
    """A kind of thing that is not kept, and named in the report when it happens."""

    TRACK = "track"  #: a track that the result's container cannot hold, such as timed metadata (mebx, mett, gpmd) and time code
    AUDIO_PACKETS_OUTSIDE_EDIT = (
        "audio_packets_outside_edit"  #: sound before or after what the source's edit list shows
    )
    PACKETS_OUTSIDE_EDIT = "packets_outside_edit"  #: the same of another track
    EDIT_LIST = "edit_list"  #: a cut inside a packet of sound: a player hears the packet's hidden samples
    TIME_STAMPS = (
        "time_stamps"  #: decode times of a copied track that no muxer takes; they are moved by ticks
    )
    METADATA = "metadata"  #: entries of the file's metadata that the container has no field for, or rounds
    HDR_METADATA = (
        "hdr_metadata"  #: Dolby Vision, HDR10+ and ambient light metadata; HDR10's is kept in H.265
    )
    CODEC = "codec"  #: a video codec that is not encoded here; the result is H.264, or H.265 above 8 bits
    BIT_DEPTH = "bit_depth"  #: more bits a sample than the encoder takes
    PIXEL_FORMAT = "pixel_format"  #: a colour model or chroma layout that the encoder does not take
    ALPHA = "alpha"  #: transparency
    ODD_SIZE = "odd_size"  #: an odd width or height; it is rounded up to even
    INTERLACED = "interlaced"  #: the mark that a frame is two fields; both are kept
    UNDECODABLE_FRAMES = (
        "undecodable_frames"  #: frames at the beginning that need others the file does not have
    )
