"""The tags that ffprobe, exiftool and MediaInfo read, and the column that each belongs to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kept.facts import FileFacts

#: What tells of the file or the encoder, and not of the recording: it may change.
DESCRIBES_THE_FILE = (
    # exiftool: the program itself, the file system, what it works out, sizes and places, the codec's configuration
    r"exif:(SourceFile|ExifTool|System|File|Composite)\b",
    r"exif:.*:(MediaData(Size|Offset)|Movie(DataSize|DataOffset|FragmentSequence)|NextTrackID|(Media)?TimeScale)$",
    r"exif:.*:((Avg|Max|Average)Bitrate|BufferSize|MinorVersion|CompatibleBrands|TrackID|Warning|MediaDuration)$",
    r"exif:.*:(VideoFrameRate|CompressorID|CompressorName|BitDepth|Encoder|EncoderVendor)$",
    r"exif:.*:(HEVCConfiguration|General(Profile|Tier|Level)|GenProfile|Constraint|MinSpatial|Parallelism|Chroma|BitDepth)",
    r"exif:.*:(AverageFrameRate|ConstantFrameRate|NumTemporalLayers|TemporalIDNested|AV1Configuration|Seq(Profile|Level|Tier))",
    r"exif:.*:(HighBitDepth|TwelveBit|InitialDelaySamples)",
    r"exif:.*:(TimecodeScale|SegmentUID|WritingApp|MuxingApp|CodecID|DocType\w*|EBML\w*|\w*UID|TrackNumber|DefaultDuration)$",
    r"exif:Matroska:.*:(_?Statistics|BPS|NumberOf|NUMBER_OF|TagName|TagString|Duration).*",
    # ffprobe: the encoder's name, statistics of Matroska, brands but the major one
    r"ffprobe:.*:(compatible_brands|minor_version|encoder|bps|number_of_.*|_statistics_.*|duration)(-\w+)?$",
    # MediaInfo: sizes, rates, the codec's configuration, what the file and its stream tell differently
    r"mediainfo:.*:(@type|typeorder|ID|UniqueID|StreamOrder|.*StreamSize.*|FileSize|FileExtension|CodecID_Compatible)$",
    r"mediainfo:.*:(HeaderSize|DataSize|FooterSize|IsStreamable|File_.*|.*BitRate.*|Encoder|encoder)$",
    # numbers of other tracks: references are compared by what they mean
    r"(mediainfo:.*:(Metas|Menus|Menu_For)|exif:.*:ChapterListTrackID)$",
    r"mediainfo:.*:(Encoded_(Library|Application).*|CodecConfigurationBox|CodecID_Version|Format_Version)$",
    r"mediainfo:Video:.*:(Format.*|CodecID.*|BufferSize|Stored_.*|Sampled_.*|ColorSpace|Source_.*|.*_Original)$",
    r"mediainfo:.*:(FrameRate.*|FrameCount|Video_.*_List|.*Count|Compression_Mode|Conformance.*|IsTruncated)$",
    r"mediainfo:.*:(mdhd_Duration|.*_Source|Media_Type|colour_description_present)$",
)
#: What one says and another leaves out means the same: tag, before, after.
_SAME = (
    (r"mediainfo:.*:colour_range", "Limited", None),  # so H.264 and H.265 say it
    (r"ffprobe:.*:language", "und", None),
)
#: What only a file of another container could say.
_OF_THE_CONTAINER = (
    r"exif:.*",
    r"mediainfo:General:.*",
    r"mediainfo:.*:(Default|Forced|CodecID\w*|Format\w*|MuxingMode|Duration\w*|Delay\w*|BitDepth|.*_Delay\w*)",
    # MediaInfo reads Opus's channels in Matroska and not in MP4; ffprobe's are compared
    r"mediainfo:Audio:.*:Channel\w*",
    r"ffprobe:file:(major_brand)",
)
#: What the headers of a file in fragments do not tell, or tell of the first fragment.
_OF_FRAGMENTS = (r"exif:.*:\w*Duration", r"mediainfo:(Video|Audio|General):.*:Duration\w*")
#: What a reader works out of the coded width, where a file says that less is shown.
_OF_CODED_SIZE = (r"mediainfo:Video:.*:DisplayAspectRatio\w*",)
#: name → column, the first that fits; what fits none is a user's key
_COLUMNS = (
    (r"ffprobe:.*:(creation_time|date|.*creationdate.*)$", "creation time"),
    (r"exif:.*:(\w*(Create|Modify|Creation)Date\w*|ContentCreateDate\S*|DateTimeOriginal|MediaCreateDate)$", "creation time"),
    (r"mediainfo:.*(Encoded_Date|Tagged_Date|Recorded_Date|creationdate.*|creation_time)$", "creation time"),
    (r".*(location|gps|xyz|loci|iso6709|latitude|longitude|altitude)[^:]*$", "location"),
    (r".*[:._](make|model|manufacturer)([-_]\w+)?$", "make, model"),
    (r"(exif|mediainfo):.*:\w*(MatrixStructure|Rotation)$", "rotation"),
    (r".*:\w*(HDR_Format|MasteringDisplay|MaxCLL|MaxFALL|DolbyVision|DOVI|AmbientViewing)\w*$", "HDR"),
    (r"exif:.*:(Color\w+|TransferCharacteristics|MatrixCoefficients|VideoFullRangeFlag)$", "colour"),
    (r"mediainfo:.*:(colour_\w+|transfer_\w+|matrix_\w+)$", "colour"),
    (r"mediainfo:.*:(BitDepth|ChromaSubsampling\w*|ScanType\w*|ScanOrder\w*)$", "pixels"),
    (r"(exif|mediainfo):.*:(Source)?(ImageWidth|ImageHeight|Width|Height|\w*AspectRatio\w*|\w*(Aperture|Pixels)Dimensions)$", "size"),
    (r"(exif|mediainfo):.*:\w*(Duration|Segments?Time|EndTime|FrameCount)\w*$", "durations"),
    (r"mediainfo:.*:(\w+_)?Delay\w*$", "sound offset"),
    (r"exif:.*:(GraphicsMode|OpColor|Track(Default|Forced|Language|Type|Used|Enabled|Name))$", "tracks"),
    (r"exif:.*:(VideoFieldOrder|VideoScanType)$", "pixels"),
    (r"exif:.*:Audio\w+$", "sample entries"),
    (r"mediainfo:.*:Standard$", "colour"),
    (r".*:(chapter\w*|_\d\d_\d\d_\d\d\w*)$", "chapters"),
    (r"exif:.*:(CoverArt|Attached\w*|Picture)$", "cover art"),
    (r"mediainfo:.*:Cover\w*$", "cover art"),
    (r"exif:Track\d+:Doc:.*", "other packets"),
    (r"ffprobe:\d+:(language|handler_name|title|vendor_id)$", "tracks"),
    (r"exif:.*:(Handler\w+|MediaLanguageCode|Track(Layer|Volume|ID)|TrackHeaderVersion|MediaHeaderVersion)$", "tracks"),
    (r"mediainfo:General:.*:Title$", "user keys"),
    (r"mediainfo:.*:(Language|Title|Default|Forced|AlternateGroup|MuxingMode|ServiceKind)$", "tracks"),
    (r"(mediainfo:.*:TimeCode\w*|ffprobe:.*:timecode|exif:.*:TimeCode)$", "time code"),
)  # fmt: skip
_NOT_COMPARED = re.compile("|".join(f"(?:{pattern})" for pattern in DESCRIBES_THE_FILE), re.IGNORECASE)
_FITTING = tuple((re.compile(pattern, re.IGNORECASE), column) for pattern, column in _COLUMNS)
_CONTAINERS = re.compile("|".join(f"(?:{pattern})" for pattern in _OF_THE_CONTAINER), re.IGNORECASE)
_FRAGMENTS = re.compile("|".join(f"(?:{pattern})" for pattern in _OF_FRAGMENTS), re.IGNORECASE)
_CODED_SIZE = re.compile("|".join(f"(?:{pattern})" for pattern in _OF_CODED_SIZE), re.IGNORECASE)
USER_KEYS = "user keys"


@dataclass(frozen=True)
class Tag:
    """One tag of a source, and its value in the result."""

    column: str
    #: tool, place and name
    name: str
    #: of the source; None for the whole file
    track: int | None
    before: str
    after: str | None

    @property
    def word(self) -> str:
        """The tag's own name, without tool and place."""
        return self.name.rsplit(":", 1)[-1]


def column_of(name: str) -> str | None:
    """Tell which column a tag belongs to; None if it may change."""
    if _NOT_COMPARED.match(name):
        return None
    return next((column for pattern, column in _FITTING if pattern.match(name)), USER_KEYS)


def columns_of(facts: FileFacts) -> set[str | None]:
    """Tell the columns of which a file has tags."""
    return {column_of(name) for name, _, _ in _tags(facts)}


def compared(source: FileFacts, result: FileFacts, places: Mapping[int, int]) -> Iterator[Tag]:
    """Return each tag of the source that may not change, with the result's value of it."""
    names = {theirs: ours for ours, theirs in places.items()}
    # exiftool and MediaInfo number tracks in the order of the file; a tag may be there several times.
    of_result: dict[str, list[str]] = defaultdict(list)
    for name, _, value in _tags(result):
        of_result[_named(name, names)].append(value)
    tags = [
        (name, track, value) for name, track, value in _tags(source) if _is_compared(name, source, result)
    ]
    # Equal ones first: of two values under one name, one may be gone.
    tags.sort(key=lambda tag: tag[2] not in of_result[tag[0]])
    for name, track, value in tags:
        values = of_result[name]
        after = value if value in values else values[0] if values else None
        if after is not None:
            values.remove(after)
        column = column_of(name)
        if column is not None:
            yield Tag(column, name, track, value, value if _means_the_same(name, value, after) else after)


def _is_compared(name: str, source: FileFacts, result: FileFacts) -> bool:
    return not (
        (source.is_iso != result.is_iso and _CONTAINERS.match(name))
        or (source.is_fragmented and _FRAGMENTS.match(name))
        or (_shows_less_than_coded(source) and _CODED_SIZE.match(name))
    )


def _shows_less_than_coded(facts: FileFacts) -> bool:
    """Tell whether a file's own width or height is not its pictures', as MediaInfo reads them."""
    return any(name in track for track in facts.mediainfo for name in ("Width_Original", "Height_Original"))


def _means_the_same(name: str, before: str, after: str | None) -> bool:
    return any(re.match(pattern, name) and (before, after) == (a, b) for pattern, a, b in _SAME)


def _named(name: str, source_index: Mapping[int, int]) -> str:
    """Write a result's tag with the place that its track has in the source."""

    def of_source(match: re.Match[str]) -> str:
        index = int(match["index"]) - (match["tool"] == "exif:Track")
        if index not in source_index:
            return f"{match['tool']}added{index}{match['end']}"
        return f"{match['tool']}{source_index[index] + (match['tool'] == 'exif:Track')}{match['end']}"

    return re.sub(r"^(?P<tool>exif:Track|ffprobe:|mediainfo:\w+:)(?P<index>\d+)(?P<end>:)", of_source, name)


def _tags(facts: FileFacts) -> Iterator[tuple[str, int | None, str]]:
    for name, value in facts.format.get("tags", {}).items():
        yield f"ffprobe:file:{name.lower()}", None, str(value)
    for stream in facts.streams:
        for name, value in stream.get("tags", {}).items():
            yield f"ffprobe:{stream['index']}:{name.lower()}", stream["index"], str(value)
    for name, value in facts.exif.items():
        track = re.match(r"Track(\d+):", name)
        yield (
            f"exif:{re.sub(r':(Main|Copy[0-9]+)(?=:)|(?<=:Doc)[0-9]+(-[0-9]+)*', '', name)}",
            int(track[1]) - 1 if track else None,
            str(value),
        )
    for described in facts.mediainfo:
        order = str(described.get("StreamOrder", ""))
        index = int(order) if order.isdigit() else None
        if described["@type"] not in {"General", "Menu"} and index is None:
            continue
        place = "file" if index is None else str(index)
        for name, value in _flat(described):
            yield f"mediainfo:{described['@type']}:{place}:{name}", index, str(value)


def _flat(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in described.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value
