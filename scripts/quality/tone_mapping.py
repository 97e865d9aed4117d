"""Tone mapping: is SDR that was put into HDR what it was, do highlights and wide colours keep their hue, and what does it cost?

Beside the ffmpeg program's zscale and tonemap, each curve at the best of eight settings. Patterns are made by the printed
equations in doubles and rounded to 10 bits; colours are compared by CIEDE2000, hues in Oklab. Real clips are compared with the
formula of docs/picture.md in doubles, and shown side by side.
"""

from __future__ import annotations

import itertools
import resource
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import imageio_ffmpeg
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from media_tasks import plan_file
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.media.tone_mapping.stages import HdrLight, map_video
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.settings_snapshot import ModeSetting

Values = NDArray[np.float64]

NAME: Final = "tone_mapping"
#: of phones, in HLG
DEFAULT_CLIPS: Final = ("iphone12pm_hlg_main10_mebx.mp4", "android14_hlg_main10_1080p.mp4")
#: tonemap's curves, and the settings that each is tried with: light that is 1, peak in units of it (None: tonemap's own idea), desat
CURVES: Final = ("hable", "mobius", "reinhard", "clip")
SETTINGS: Final = tuple(itertools.product((100, 203), (None, 1000), (0, 2)))
#: goals
MOST_DELTA_E: Final = 1.0
MOST_HUE_DEGREES: Final = 2.0
LEAST_PSNR_DB: Final = 45.0

_TRANSFERS: Final = {"PQ": (16, "smpte2084"), "HLG": (18, "arib-std-b67")}
_FFMPEG: Final = imageio_ffmpeg.get_ffmpeg_exe()
_PATCH: Final = 16
#: in Oklab; below it a colour is grey
_LEAST_CHROMA: Final = 0.02
_WHITE: Final = 203.0
_PEAK: Final = 1000.0
#: R'G'B' of 255: ColorChecker Classic (BabelColor's averages) and six skins
_CHECKER: Final = """115 82 69,204 161 141,101 134 179,89 109 61,141 137 194,132 228 208,249 118 35,80 91 182,222 91 125,91 63 123,
173 232 91,255 164 26,44 56 142,74 148 81,179 42 50,250 226 21,191 81 160,6 142 172,252 252 252,230 230 230,200 200 200,143 143 142,
100 100 100,50 50 50,45 34 30,92 56 38,142 95 70,190 138 110,222 176 150,244 214 197"""
_TO_XYZ: Final = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_TO_2020: Final = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
_TO_709: Final = np.linalg.inv(_TO_2020)
_TO_LMS: Final = np.array(
    [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
)
_TO_AB: Final = np.array([[1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
_LUMA_2020: Final = np.array([0.2627, 0.6780, 0.0593])
_LUMA_709: Final = np.array([0.2126, 0.7152, 0.0722])

#: red, green and blue of HDR, 0 to 1, and the transfer's name → R'G'B' of a player of BT.709
_Mapper = Callable[[Values, str], Values]

#: pictures of the last run by name, which `plot` writes
_pictures: dict[str, bytes] = {}


def run(work: Path, clips: Sequence[Path]) -> dict[str, Any]:
    """Measure patterns, then each clip.

    Returns:
        Of patterns, by transfer and way: CIEDE2000, degrees of hue, cd/m2 from which on nothing becomes brighter. Of clips: PSNR and
        CIEDE2000 against the formula, CPU milliseconds a frame, and where the goals are met.
    """
    _pictures.clear()
    patterns = {name: _measure_patterns(name) for name in _TRANSFERS}
    found = {path.name: _measure_clip(work, path, patterns) for path in clips}
    return {"patterns": patterns, "clips": found}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw what becomes of grey light as PATH.svg, and write the pictures of the run beside it."""
    lines = []
    for place, (name, ways) in enumerate(result["patterns"].items()):
        left = 50 + 400 * place
        lines.append(f'<text x="{left}" y="20">{name}: signal of SDR over light in cd/m2</text>')
        for number, (way, figures) in enumerate(ways.items()):
            colour = ("#000", "#c33", "#27c", "#292", "#a5c")[number % 5]
            points = " ".join(
                f"{left + 140 * np.log10(light / 3):.1f},{330 - 290 * signal:.1f}"
                for light, signal in figures["grey"].items()
                for light in (float(light),)
            )
            lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
            lines.append(f'<text x="{left}" y="{50 + 16 * number}" fill="{colour}">{way}</text>')
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="850" height="350" font-family="sans-serif" font-size="12">'
    path.with_suffix(".svg").write_text("\n".join((head, *lines, "</svg>\n")))
    for name, data in _pictures.items():
        path.with_name(f"{path.name}-{name}.jpg").write_bytes(data)


# -- patterns


def _measure_patterns(name: str) -> dict[str, Any]:
    """Measure ours and each curve at its best setting: that with the least CIEDE2000 of colours of SDR.

    Pictures show the best one that leaves colours alone (desat=0), which looks better.
    """
    ways = {"ours": {"settings": {}, **_figures(_ours, name)}}
    for curve in CURVES:
        tried = []
        for npl, peak, desat in SETTINGS:
            settings = {"npl": npl, "peak": peak and round(peak / npl, 3), "desat": desat}
            tried.append({"settings": settings, **_figures(_other(curve, settings), name)})
        ways[curve] = _best(tried)
        ways[curve]["settings_for_pictures"] = _best([one for one in tried if not one["settings"]["desat"]])[
            "settings"
        ]
    ours, others = ways["ours"], [way for key, way in ways.items() if key != "ours"]
    best = min(float(way["delta_e_mean"]) for way in others if way["clips_from"] is None)
    ours["goals"] = {
        "colours": {"met": ours["delta_e_mean"] <= MOST_DELTA_E},
        "colours_better_than_any_that_does_not_clip": {"met": ours["delta_e_mean"] < best},
        "no_light_clips": {"met": ours["clips_from"] is None},
        "highlights_keep_their_hue": {"met": ours["highlights_hue_max"] <= MOST_HUE_DEGREES},
        "wide_colours_nearer_in_hue_than_any": {
            "met": ours["wide_hue_mean"] < min(way["wide_hue_mean"] for way in others)
        },
    }
    return ways


def _best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return min(tried, key=lambda one: float(one["delta_e_mean"]))


def _figures(mapper: _Mapper, name: str) -> dict[str, Any]:
    checker = np.array([[int(part) for part in row.split()] for row in _CHECKER.split(",")]) / 255
    greys = np.linspace(0, 1, 21)[:, np.newaxis] * np.ones(3)
    sdr = np.concatenate((greys, checker))
    off = _delta_e(_lab(_light(mapper(_hdr(sdr**2.4, name), name))), _lab(sdr**2.4))
    ramp = np.geomspace(3, _PEAK, 48)
    grey = mapper(_hdr(ramp[:, np.newaxis] / _WHITE * np.ones(3), name), name).mean(axis=-1)
    same = np.flatnonzero(grey < grey.max() - 1 / 876)
    last = ramp[same[-1] + 1] if same[-1] + 1 < len(ramp) else _PEAK
    tints, steps = (np.array(list(_circle(6))) * 0.7 + 0.3), np.geomspace(50, 900, 12) / _WHITE
    highlights = (steps[:, np.newaxis, np.newaxis] * tints).reshape(-1, 3)
    wide = np.concatenate([0.35 * (np.array(list(_circle(24))) * part + 1 - part) for part in (1.0, 0.85)])
    return {
        "delta_e_mean": round(float(off.mean()), 3),
        "delta_e_max": round(float(off.max()), 3),
        "delta_e_up_to_60_percent": round(float(off[(sdr**2.4).max(axis=-1) <= 0.6].mean()), 3),
        "reference_white": round(float(mapper(_hdr(np.ones((1, 3)), name), name).mean()), 3),
        # the last quarter of a stop may be within one code of the peak
        "clips_from": round(float(last)) if last < _PEAK * 0.84 else None,
        "monotone": bool((np.diff(grey) >= -1e-6).all()),
        **_hues("highlights", mapper(_hdr(highlights, name), name), highlights),
        **_hues("wide", mapper(_code(wide @ _TO_709.T, name), name), wide @ _TO_709.T),
        "grey": {f"{light:.1f}": round(float(signal), 4) for light, signal in zip(ramp, grey, strict=True)},
    }


def _hues(what: str, made: Values, truth: Values) -> dict[str, float]:
    """Degrees beside the truth; a colour that came out grey has no hue, and is counted instead."""
    light = _light(made)
    seen = _chroma(light) >= _LEAST_CHROMA
    apart = np.abs((_hue(light) - _hue(truth) + 180) % 360 - 180)[seen]
    return {
        f"{what}_hue_mean": round(float(apart.mean()), 2),
        f"{what}_hue_max": round(float(apart.max()), 2),
        f"{what}_turned_grey": int((~seen).sum()),
    }


def _circle(count: int) -> Iterable[tuple[float, ...]]:
    """Pure colours around the circle."""
    for number in range(count):
        at = number * 6 / count
        yield tuple(min(max(abs((at + shift) % 6 - 3) - 1, 0), 1) for shift in (0, 4, 2))


# -- equations as they are printed


def _hdr(light: Values, name: str) -> Values:
    """BT.709's light, whose 1 is 203 cd/m2, as signals of BT.2020."""
    return _code(light, name)


def _code(light_709: Values, name: str) -> Values:
    light = np.maximum(light_709 @ _TO_2020.T, 0) * _WHITE
    if name == "PQ":
        power = (light / 10_000) ** (2610 / 16384)
        signals = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        luminance = np.maximum(light @ _LUMA_2020, 1e-9)[..., np.newaxis]
        scene = (luminance / _PEAK) ** (-0.2 / 1.2) * light / _PEAK
        logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signals = np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)
    return np.clip(signals, 0, 1)


def _formula(signals: Values, name: str) -> Values:
    """What docs/picture.md says, written anew: signals of HDR to R'G'B' of BT.1886."""
    if name == "PQ":
        root = signals ** (32 / 2523)
        light = (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
        light = light * 10_000
    else:
        scene = np.where(
            signals <= 0.5, signals**2 / 3, (np.exp((signals - 0.55991073) / 0.17883277) + 0.28466892) / 12
        )
        light = np.maximum(scene @ _LUMA_2020, 1e-9)[..., np.newaxis] ** 0.2 * scene * _PEAK
    light = light @ _TO_709.T / _WHITE
    grey = np.maximum(light @ _LUMA_709, 1e-9)[..., np.newaxis]
    far = (grey - light.min(axis=-1, keepdims=True)) / grey
    light = grey + (light - grey) * np.where(far > 0.97, _eased(far, 0.97, 2.23) / np.maximum(far, 0.97), 1)
    most = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    return np.asarray(np.clip(light * _eased(most, 0.6, _PEAK / _WHITE) / most, 0, 1) ** (1 / 2.4))


def _eased(value: Values, begin: float, end: float) -> Values:
    part, whole = (np.clip((x - begin) / (1 - begin), 0, None) for x in (value, np.array(end)))
    part = np.minimum(part, whole)
    return np.where(value <= begin, value, begin + (1 - begin) * part * (1 + part / whole**2) / (1 + part))


def _light(signals: Values) -> Values:
    return np.asarray(np.clip(signals, 0, 1) ** 2.4)


def _hue(light: Values) -> Values:
    a, b = (np.cbrt(light @ _TO_LMS.T) @ _TO_AB.T).T
    return np.asarray(np.degrees(np.arctan2(b, a)))


def _chroma(light: Values) -> Values:
    a, b = (np.cbrt(light @ _TO_LMS.T) @ _TO_AB.T).T
    return np.asarray(np.hypot(a, b))


def _lab(light: Values) -> Values:
    x, y, z = ((light @ _TO_XYZ.T) / _TO_XYZ.sum(axis=1)).T
    fx, fy, fz = (np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z))
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def _delta_e(one: Values, other: Values) -> Values:
    """CIEDE2000 (ISO/CIE 11664-6)."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    g = 1 + 0.5 * (1 - np.sqrt(mean / (mean + 25.0**7)))
    c1, c2 = np.hypot(a1 * g, b1), np.hypot(a2 * g, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1 * g)) % 360, np.degrees(np.arctan2(b2, a2 * g)) % 360
    apart = np.where(c1 * c2 == 0, 0, (h2 - h1 + 180) % 360 - 180)
    hue_off = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(apart / 2))
    hue = np.where(c1 * c2 == 0, h1 + h2, (h1 + apart / 2) % 360)
    level, chroma = (l1 + l2) / 2, (c1 + c2) / 2

    def cosine(times: float, shift: float) -> Values:
        return np.asarray(np.cos(np.radians(times * hue + shift)))

    t = 1 - 0.17 * cosine(1, -30) + 0.24 * cosine(2, 0) + 0.32 * cosine(3, 6) - 0.20 * cosine(4, -63)
    sl = 1 + 0.015 * (level - 50) ** 2 / np.sqrt(20 + (level - 50) ** 2)
    sc, sh = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    turn = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rt = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(np.radians(turn))
    dl, dc, dh = (l2 - l1) / sl, (c2 - c1) / sc, hue_off / sh
    return np.asarray(np.sqrt(np.maximum(dl**2 + dc**2 + dh**2 + rt * dc * dh, 0)))


# -- ways


def _ours(signals: Values, name: str) -> Values:
    """Through the stages of a video's plan."""
    frame = _coded(signals)
    colour = Colour(primaries=9, transfer=_TRANSFERS[name][0], matrix=9, range=1)
    size = frame.width, frame.height
    stages = map_video(
        HdrLight(colour=colour, peak=round(_PEAK)), frame.format.name, size, "yuv444p10le", None
    )
    chain = FilterChain(stages, Fraction(1, 30))
    (made,) = [*chain.push(frame), *chain.push(None)]
    return _decoded([read_plane(made, index) for index in range(3)])


def _other(curve: str, settings: dict[str, Any]) -> _Mapper:
    """Through the ffmpeg program."""

    def mapped(signals: Values, name: str) -> Values:
        frame = _coded(signals)
        size = f"{frame.width}x{frame.height}"
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", size]
        told = f"color_primaries=bt2020:color_trc={_TRANSFERS[name][1]}:colorspace=bt2020nc:range=limited"
        filters = f"setparams={told},{_chain(curve, settings)}"
        made = _ffmpeg(
            [*raw, "-i", "-", "-vf", f"{filters},format=yuv444p10le", *raw[:4], "-"],
            b"".join(read_plane(frame, index).tobytes() for index in range(3)),
        )
        return _decoded(list(np.frombuffer(made, "<u2").reshape(3, frame.height, frame.width)))

    return mapped


def _chain(curve: str, settings: dict[str, Any]) -> str:
    peak = f":peak={settings['peak']}" if settings["peak"] else ""
    return (
        f"zscale=t=linear:npl={settings['npl']},format=gbrpf32le,zscale=p=bt709,"
        f"tonemap={curve}:desat={settings['desat']}{peak},zscale=t=bt709:m=bt709:r=limited"
    )


def _coded(signals: Values) -> VideoFrame:
    """A patch for each colour, 10 bits, BT.2020."""
    y = signals @ _LUMA_2020
    cb, cr = (signals[:, 2] - y) / 1.8814, (signals[:, 0] - y) / 1.4746
    frame = VideoFrame(_PATCH * len(signals), _PATCH, "yuv444p10le")
    for index, values in enumerate((y * 876 + 64, cb * 896 + 512, cr * 896 + 512)):
        write_plane(frame, index, np.tile(np.repeat(np.rint(values), _PATCH), (_PATCH, 1)))
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    return frame


def _decoded(planes: Sequence[NDArray[Any]]) -> Values:
    """R'G'B' of the middles of the patches, coded by BT.709 in 10 bits."""
    y, cb, cr = (
        plane[_PATCH // 2, _PATCH // 2 :: _PATCH].astype(np.float64) - black
        for plane, black in zip(planes, (64, 512, 512), strict=True)
    )
    red, blue = y / 876 + 1.5748 * cr / 896, y / 876 + 1.8556 * cb / 896
    return np.stack([red, (y / 876 - 0.2126 * red - 0.0722 * blue) / 0.7152, blue], axis=-1)


def _ffmpeg(arguments: Sequence[str], data: bytes = b"") -> bytes:
    command = [_FFMPEG, "-v", "error", *([] if data else ["-nostdin", "-noautorotate"]), *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=True).stdout


# -- clips


def _measure_clip(work: Path, path: Path, patterns: dict[str, Any]) -> dict[str, Any]:
    plan = plan_file(path, setting=ModeSetting(to_sdr=True))
    rendition = plan.renditions[0]
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
    name = next((key for key, (number, _) in _TRANSFERS.items() if number == first.color_trc), None)
    if name is None:
        return {"skipped": "it is SDR"}
    first.pts, first.time_base = 0, Fraction(1, 30)
    chain = FilterChain(rendition.geometry, Fraction(1, 30))
    (made,) = [*chain.push(first), *chain.push(None)]
    size = f"{made.width}x{made.height}"
    raw = ["-f", "rawvideo", "-pix_fmt", made.format.name, "-s", size]
    data = b"".join(read_plane(made, index).tobytes() for index in range(3))
    to_rgb = "zscale=min=709:rin=limited:m=gbr:r=full:f=bicubic,format=gbrp16le"
    ours = _rgb16(_ffmpeg([*raw, "-i", "-", "-vf", to_rgb, "-f", "rawvideo", "-"], data), made)
    deep = "zscale=min=2020_ncl:rin=limited:m=gbr:r=full:f=bicubic,format=gbrp16le"
    source = ["-i", str(path), "-frames:v", "1", "-an"]
    exact = _formula(_rgb16(_ffmpeg([*source, "-vf", deep, "-f", "rawvideo", "-"]), made), name)
    error = np.mean((np.clip(ours, 0, 1) - exact) ** 2)
    off = _delta_e(_lab(_light(ours[::3])), _lab(exact[::3] ** 2.4))
    ways = {curve: _chain(curve, patterns[name][curve]["settings_for_pictures"]) for curve in CURVES[:3]}
    _pictures[path.stem] = _side_by_side(work, [*raw, "-i", "-"], data, path, list(ways.values()))
    psnr = float(-10 * np.log10(error))
    return {
        "transfer": name,
        "psnr_to_formula_db": round(psnr, 2),
        "delta_e_to_formula_mean": round(float(off.mean()), 3),
        "cpu_ms_per_frame": {
            "ours": _cost_of_ours(path, rendition.geometry),
            **{curve: _cost_of_other(path, filters) for curve, filters in ways.items()},
        },
        "goals": {"formula": {"met": psnr >= LEAST_PSNR_DB}},
    }


def _rgb16(data: bytes, like: VideoFrame) -> Values:
    green, blue, red = np.frombuffer(data, "<u2").reshape(3, like.height * like.width) / 65535
    return np.stack([red, green, blue], axis=-1)


def _side_by_side(work: Path, raw: Sequence[str], data: bytes, path: Path, ways: Sequence[str]) -> bytes:
    """Ours and hable above mobius and reinhard, as a JPEG."""
    # by way of RGB: libswscale leaves the matrix from YUV to YUV as it is
    shrunk = "scale=480:-2:in_color_matrix=bt709:in_range=limited,format=gbrp"
    graph = [f"[0]{shrunk}[w0]"]
    graph += [f"[{number}]{way},format=yuv420p,{shrunk}[w{number}]" for number, way in enumerate(ways, 1)]
    graph += [
        "[w0][w1]hstack[a]",
        "[w2][w3]hstack[b]",
        "[a][b]vstack,scale=out_color_matrix=bt601:out_range=full,format=yuvj420p[out]",
    ]
    out = work / f"{path.stem}.jpg"
    spread = list(raw)
    for _ in ways:
        spread += ["-noautorotate", "-i", str(path)]
    command = [_FFMPEG, "-v", "error", "-y", *spread, "-filter_complex", ";".join(graph)]
    command += ["-map", "[out]", "-frames:v", "1", "-q:v", "4", "-bitexact", str(out)]
    subprocess.run(command, input=data, capture_output=True, timeout=120, check=True)
    return out.read_bytes()


def _cost_of_ours(path: Path, stages: Sequence[str]) -> float:
    chain, spent, count = FilterChain(stages, Fraction(1, 30)), 0.0, 0
    with av.open(str(path)) as container:
        for frame in itertools.islice(container.decode(video=0), 9):
            began = time.process_time()
            list(chain.push(frame))
            if count:  # the first one makes the table
                spent += time.process_time() - began
            count += 1
    return round(spent / (count - 1) * 1000, 1)


def _cost_of_other(path: Path, filters: str) -> float:
    """CPU of a run with the filters beyond that of a run that only decodes, a frame; one thread of each kind."""
    spent = []
    for chain in (f"{filters},format=yuv420p", "null"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        threads = ["-filter_threads", "1", "-threads", "1"]
        _ffmpeg([*threads, "-i", str(path), "-frames:v", "9", "-an", "-vf", chain, "-f", "null", "-"])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round((spent[0] - spent[1]) / 9 * 1000, 1)
