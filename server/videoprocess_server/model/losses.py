"""The closed list of what a result may lack of its source. `docs/limits.md` is made from it."""

from __future__ import annotations

from enum import Enum


class Loss(Enum):
    """A kind of thing that is not kept, and named in the report when it happens."""

    #: a track that the result's container cannot hold, such as timed metadata (mebx, mett, gpmd) and time code
    TRACK = "track"
    #: sound before or after what the source's edit list shows
    AUDIO_PACKETS_OUTSIDE_EDIT = "audio_packets_outside_edit"
    #: the same of another track
    PACKETS_OUTSIDE_EDIT = "packets_outside_edit"
    #: a cut inside a packet of sound: a player hears the packet's hidden samples
    EDIT_LIST = "edit_list"
    #: times of a copied track that the result cannot tell exactly; they are moved by ticks
    TIME_STAMPS = "time_stamps"
    #: entries of the file's metadata that the container has no field for, or rounds
    METADATA = "metadata"
    #: HDR metadata of each picture (Dolby Vision, HDR10+, HDR Vivid) where the picture is not H.265 before and after, of the
    #: same size and at the same times; HDR10's in H.264
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
    #: data in the file that lies beside its tracks and that nothing in the result points to
    FILE_DATA = "file_data"
