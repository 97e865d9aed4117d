"""The closed list of what a result may lack of its source. `docs/limits.md` is made from it."""

from __future__ import annotations

from enum import Enum


class Loss(Enum):
    """A kind of thing that is not kept, and named in the report when it happens."""

    #: a track of a Matroska file that FFmpeg's muxer cannot write; an MP4's, MOV's or 3GP's tracks are all kept
    TRACK = "track"
    #: pictures that the source's edit list hides from players; what it hides of other tracks is kept
    PACKETS_OUTSIDE_EDIT = "packets_outside_edit"
    #: a start or an end that lies between two ticks of the movie and is moved to one of them
    EDIT_LIST = "edit_list"
    #: times of a Matroska file's track that the result cannot tell exactly; they are moved by a tick
    TIME_STAMPS = "time_stamps"
    #: metadata of a Matroska file that the container has no field for, or rounds; what tells of an MP4's fragments
    METADATA = "metadata"
    #: HDR metadata of single pictures (Dolby Vision, HDR10+) unless H.265 stays H.265 at the same size and times, not mirrored; HDR10's in H.264
    HDR_METADATA = "hdr_metadata"
    #: the time code within pictures of H.264; that of a track of its own is kept
    TIME_CODE = "time_code"
    #: a video codec that is not encoded here; the result is H.264, or H.265 above 8 bits
    CODEC = "codec"
    #: more bits a sample than the encoder takes
    BIT_DEPTH = "bit_depth"
    #: a colour model or chroma layout that the encoder does not take
    PIXEL_FORMAT = "pixel_format"
    #: transparency
    ALPHA = "alpha"
    #: an odd width or height; it is rounded up to even
    ODD_SIZE = "odd_size"
    #: the two fields of an interlaced frame, half of the motion: the result has a whole picture at each frame's time
    INTERLACED = "interlaced"
    #: what the recorder asks of the encoder (encParam) and cannot be read, or is followed within bounds only
    ENCODER_PARAMETERS = "encoder_parameters"
    #: frames at the beginning that need others the file does not have
    UNDECODABLE_FRAMES = "undecodable_frames"
    #: frames before the beginning that have no time; no player shows them
    UNTIMED_FRAMES = "untimed_frames"
    #: damaged frames, where that is to be concealed: the last good one before is shown, and frames coded after them may show traces
    DAMAGED_FRAMES = "damaged_frames"
    #: what a player is told of the picture and does not hold for the new one, such as a second eye's view or an aperture
    PICTURE_MARKS = "picture_marks"
    #: media, or a watermark, in another file, which is never opened; the reference to it is kept
    EXTERNAL_REFERENCE = "external_reference"


#: what proxies have not and are not named for: they are small, and not what is kept. Their encoding's note tells
LACKED_BY_PROXIES = frozenset({Loss.HDR_METADATA, Loss.TIME_CODE})
