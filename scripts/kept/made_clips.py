"""Clips that the ffmpeg program makes: one for each thing that few recordings have. Small and short."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import imageio_ffmpeg  # type: ignore[import-untyped]

_SIZE = "320x180"
_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p")
_X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "24")
_QUIET = "log-level=error:pools=none:frame-threads=1"
_AAC = ("-c:a", "aac", "-b:a", "64k")
_KEYS = ("-movflags", "use_metadata_tags")
_MASTERING = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
)
_BT2020 = ("-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-color_range", "tv")
#: seconds between frames as a phone has them in the dark, over and over
_UNEVEN = "(floor(N/4)*0.25+if(mod(N,4),0.033*mod(N,4)+if(gte(mod(N,4),2),0.05),0))/TB"

Arguments = tuple[str, ...]


def _picture(seconds: float = 2.5, rate: str = "30", size: str = _SIZE) -> Arguments:
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds},noise=alls=4:allf=t")


def _sound(seconds: float = 2.5, hertz: int = 440) -> Arguments:
    return ("-f", "lavfi", "-i", f"sine=frequency={hertz}:sample_rate=48000:duration={seconds}")


_BOTH = (*_picture(), *_sound())


def _simple(*arguments: str) -> Callable[[Path], None]:
    return lambda path: _run(*arguments, path)


def make_clips(folder: Path) -> list[Path]:
    """Write every clip into a folder; one that is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MADE.items():
        if not (folder / name).exists():
            part = folder / f"part-{name}"
            make(part)
            part.rename(folder / name)
    return [folder / name for name in MADE]


def _run(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def _begins_inside_a_gop(path: Path) -> None:
    """Cut off what is before 0.7 s without encoding: an edit list hides the rest of that GOP."""
    whole = path.with_name("whole.mp4")
    _run(*_BOTH, *_X264, "-g", "45", "-bf", "2", *_AAC, whole)
    _run("-ss", "0.7", "-i", whole, "-map", "0", "-c", "copy", path)
    whole.unlink()


def _mirrored(path: Path) -> None:
    upright = path.with_name("upright.mov")
    _run(*_BOTH, *_X264, *_AAC, upright)
    _run("-display_rotation:v:0", "90", "-display_hflip:v:0", "-i", upright, "-c", "copy", path)
    upright.unlink()


def _everything(path: Path) -> None:
    """Three languages, subtitles, chapters and a cover picture in one MP4."""
    _with_extras(
        path,
        ("-c:s", "mov_text"),
        cover=("-map", "5:v", "-c:v:1", "copy", "-disposition:v:1", "attached_pic"),
    )


def _matroska(path: Path) -> None:
    """FLAC, two subtitles' worth of chapters, and two attachments."""
    _with_extras(path, ("-c:s", "srt"), sound=("-c:a", "flac"), attachments=True)


def _with_extras(
    path: Path,
    subtitles: Arguments,
    *,
    sound: Arguments = _AAC,
    cover: Arguments = (),
    attachments: bool = False,
) -> None:
    lines, chapters, picture = (path.with_name(name) for name in ("lines.srt", "chapters.txt", "cover.jpg"))
    lines.write_text("1\n00:00:00,300 --> 00:00:01,000\nfirst\n\n2\n00:00:01,200 --> 00:00:02,000\nsecond\n")
    chapters.write_text(
        ";FFMETADATA1\ntitle=Everything\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1100\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1100\nEND=2500\ntitle=Two\n"
    )
    _run(*_picture(0.1, size="96x96"), "-frames:v", "1", picture)
    # Without its mark a picture would be encoded as a video.
    art = ("-i", str(picture)) if cover else ()
    files = ("-attach", str(picture), "-attach", str(lines)) if attachments else ()
    kinds = ("image/jpeg", "text/plain") if attachments else ()
    types = [word for k, kind in enumerate(kinds) for word in (f"-metadata:s:t:{k}", f"mimetype={kind}")]
    languages = [
        word
        for k, language in enumerate(("eng", "fra", "deu"))
        for word in (f"-metadata:s:a:{k}", f"language={language}")
    ]
    _run(
        *(*_picture(), *_sound(), *_sound(hertz=660), *_sound(hertz=880), "-i", str(lines)),
        *(*art, "-i", str(chapters)),
        *("-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:a", "-map", "4:s"),
        *(*_X264, *sound, *subtitles, *cover, *files, *types, *languages),
        *("-metadata:s:s:0", "language=ita", "-disposition:a:1", "default", "-disposition:a:0", "0"),
        *("-map_metadata", str(5 + bool(art)), "-map_chapters", str(5 + bool(art))),
        path,
    )
    for file in (lines, chapters, picture):
        file.unlink()


#: name → what makes it
MADE: Mapping[str, Callable[[Path], None]] = {
    "variable_rate.mp4": _simple(
        *_picture(2, "16"), *_sound(2), "-vf", f"settb=1/90000,setpts='{_UNEVEN}'", "-fps_mode", "passthrough",
        "-enc_time_base", "1:90000", "-video_track_timescale", "90000", *_X264, *_AAC,
    ),
    "begins_inside_a_gop.mp4": _begins_inside_a_gop,
    "begins_half_a_second_late.mp4": _simple(
        "-itsoffset", "0.5", *_BOTH, "-map", "0:v", "-map", "1:a", *_X264, *_AAC,
    ),
    "gap_of_a_second.mp4": _simple(
        *_BOTH, "-vf", "select='not(between(t,0.8,1.8))'", "-fps_mode", "passthrough", *_X264, *_AAC,
    ),
    "240_fps.mp4": _simple(*_picture(1, "240"), *_sound(1), *_X264, *_AAC),
    "7_fps.mp4": _simple(*_picture(2.5, "7"), *_sound(), *_X264, *_AAC),
    "gop_of_10_seconds.mp4": _simple(*_picture(11, "12"), *_sound(11), *_X264, "-g", "120", "-sc_threshold", "0", *_AAC),
    "open_gop.mp4": _simple(
        *_BOTH, *_X265, "-x265-params", f"{_QUIET}:open-gop=1:keyint=15:min-keyint=15:bframes=3", "-tag:v", "hvc1", *_AAC,
    ),
    "b_pyramid.mov": _simple(*_BOTH, *_X264, "-bf", "7", "-x264-params", "b-pyramid=normal:b-adapt=0", *_AAC),
    "10_bit_422.mov": _simple(*_BOTH, *_X264[:-1], "yuv422p10le", "-c:a", "pcm_s24le"),
    "hdr10.mp4": _simple(
        *_BOTH, *_X265, "-pix_fmt", "yuv420p10le", *_BT2020, "-color_trc", "smpte2084",
        "-x265-params", f"{_QUIET}:hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:{_MASTERING}",
        "-tag:v", "hvc1", *_AAC,
    ),
    "hlg.mov": _simple(
        *_BOTH, *_X265, "-pix_fmt", "yuv420p10le", *_BT2020, "-color_trc", "arib-std-b67",
        "-x265-params", f"{_QUIET}:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc", "-tag:v", "hvc1", *_AAC,
    ),
    "interlaced.mp4": _simple(
        *_picture(2.5, "50"), *_sound(), "-vf", "interlace=scan=tff", "-flags", "+ildct+ilme", *_X264, "-x264-params", "tff=1", *_AAC,
    ),
    "mirrored.mov": _mirrored,
    "aspect_4_3.mp4": _simple(*_BOTH, "-vf", "setsar=4/3", *_X264, *_AAC),
    "everything.mp4": _everything,
    "matroska.mkv": _matroska,
    "vp9_opus.webm": _simple(
        *_BOTH, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "400k", "-c:a", "libopus",
    ),
    "fragmented.mp4": _simple(
        *_BOTH, *_X264, "-g", "15", *_AAC, "-movflags", "frag_keyframe+empty_moov+default_base_moof",
    ),
    "moov_first.mp4": _simple(*_BOTH, *_X264, *_AAC, "-movflags", "faststart"),
    "time_code.mov": _simple(*_BOTH, *_X264, *_AAC, "-timecode", "01:00:00:00"),
    "user_keys.mp4": _simple(
        *_BOTH, *_X264, *_AAC, *_KEYS,
        "-metadata", "com.android.version=14", "-metadata", "com.android.capture.fps=30.000000",
        "-metadata", "com.openharmony.recorder.timestamp=1700000000", "-metadata", "com.example.note=Grüße",
        "-metadata", "com.apple.quicktime.creationdate=2024-03-05T06:07:08+0100",
        "-metadata", "make=Maker", "-metadata", "model=Model 1", "-metadata", "title=A title",
    ),
    "date_and_place.mp4": _simple(
        *_BOTH, *_X264, *_AAC, "-metadata", "creation_time=2024-03-05T06:07:08.000000Z",
        "-metadata", "location=+48.1374+011.5755/", "-metadata", "comment=from the tower",
    ),
    "date_and_place.mov": _simple(
        *_BOTH, *_X264, *_AAC, "-metadata", "creation_time=2024-03-05T06:07:08.000000Z",
        "-metadata", "location=+48.1374+011.5755+519/", "-metadata", "make=Maker", "-metadata", "model=Model 1",
    ),
    "phone.3gp": _simple(
        *_picture(2.5, "15", "176x144"), *_sound(), "-c:v", "h263", "-b:v", "200k", "-ar", "8000", "-ac", "1",
        "-c:a", "libopencore_amrnb", "-b:a", "12.2k",
    ),
}  # fmt: skip
