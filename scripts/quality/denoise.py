"""Denoising: noise as a camera makes it is added to clean clips, and what is left of it is measured, beside FFmpeg's denoisers.

Luma's variance is sigma² (0.4 + 0.6 Y / 128), chroma's deviation 0.7 sigma (tests/noisy_clips.py), seeded. Frames from the
middle of a clip are cut to the middle of the picture; every frame counts, also the first and last, which have fewer neighbours.
Ours measures the noise itself; of each of the ffmpeg program's filters the best of its settings counts, which were given sigma.
CPU is user and system time: of the ffmpeg program with one thread, start and raw frames included; of ours of the filter alone,
in a process that is running.
"""

from __future__ import annotations

import re
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import imageio_ffmpeg
import numpy as np

from noisy_clips import Planes, enhance, psnr, read_clip, to_frames, with_noise
from videoprocess_server.enhance.chains import build_chain
from videoprocess_server.media.noise import estimate_frames
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.settings_snapshot import ModeSetting

NAME: Final = "denoise"
DEFAULT_CLIPS: Final = (
    "dog_720p30_10s.mp4",
    "flower_540p_5s.mp4",
    "nasa_2video_2audio_2subs.mp4",
    "h264_fullrange_webcam.mkv",
)
SIGMAS: Final = (5, 10, 20)
FRAMES: Final = 12
SIZE: Final = (480, 272)
#: of them the noise is measured on, as the service does at each place
MEASURED_FRAMES: Final = 3
#: goals
MOST_BEHIND_DB: Final = 1.0
LEAST_CLEAN_DB: Final = 42.0
#: what the encoded result is encoded with
ENCODER: Final = ("-c:v", "libx264", "-preset", "medium", "-crf", "20", "-threads", "1")


def _hqdn3d(sigma: float) -> list[str]:
    factors = ((0.3, 2.0), (0.5, 1.0), (0.8, 1.5), (1.2, 1.8), (1.5, 1.5), (2.0, 1.0))
    return [
        f"hqdn3d={space * sigma:.2f}:{space * sigma * 0.75:.2f}:{over * sigma:.2f}:{over * sigma * 0.75:.2f}"
        for space, over in factors
    ]


def _vaguedenoiser(sigma: float) -> list[str]:
    return [f"vaguedenoiser=threshold={factor * sigma:.2f}" for factor in (0.8, 1.0, 1.5, 2.0, 3.0)]


def _atadenoise(sigma: float) -> list[str]:
    """A window of 33 aborts the program where a clip has fewer frames than half of it."""
    tried = ((5, 3, 6), (9, 2, 3), (9, 3, 6), (9, 4, 12), (15, 4, 15), (21, 4.5, 20))

    def limits(one: float, total: float) -> str:
        shares = [(plane, sigma * (1 if plane == 0 else 0.7) / 255) for plane in range(3)]
        return ":".join(
            f"{plane}a={min(0.3, one * share):.4f}:{plane}b={min(5.0, total * share):.4f}"
            for plane, share in shares
        )

    return [f"atadenoise=s={window}:{limits(one, total)}" for window, one, total in tried]


def _nlmeans(sigma: float) -> list[str]:
    tried = ((0.7, 3, 9), (0.6, 5, 11), (0.6, 7, 15), (0.8, 7, 15), (0.7, 5, 21))
    return [f"nlmeans=s={min(30.0, max(1.0, a * sigma)):.2f}:p={p}:r={r}" for a, p, r in tried]


def _bm3d(sigma: float) -> list[str]:
    """FFmpeg's wants several times the noise's deviation; groups and the second step made it worse and dearer on all clips."""
    tried = ((8, 8, 4), (8, 8, 2), (9, 8, 1), (4, 16, 4), (4, 16, 2))
    return [f"bm3d=sigma={a * sigma:.2f}:block={block}:bstep={step}" for a, block, step in tried]


COMPETITORS: Final[Mapping[str, Callable[[float], list[str]]]] = {
    "hqdn3d": _hqdn3d,
    "vaguedenoiser": _vaguedenoiser,
    "atadenoise": _atadenoise,
    "nlmeans": _nlmeans,
    "bm3d": _bm3d,
}


def run(work: Path, clips: Sequence[Path]) -> dict[str, Any]:
    """Measure each clip.

    Returns:
        For each clip and sigma PSNR in dB, SSIM and CPU seconds of every filter, and whether the goals are met.
    """
    return {path.name: _measure(work, path) for path in clips}


def _measure(work: Path, path: Path) -> dict[str, Any]:
    clean = read_clip(path, FRAMES, SIZE)
    if len(clean) < MEASURED_FRAMES or clean[0][0].size == 0:
        return {"skipped": "it has too few frames, or they are too small"}
    figures: dict[str, Any] = {"clean": _clean(clean)}
    for sigma in SIGMAS:
        figures[f"sigma_{sigma}"] = _noisy(work, clean, sigma)
    return figures


def _clean(clean: list[Planes]) -> dict[str, Any]:
    """What becomes of a clean clip."""
    found: dict[str, Any] = {}
    for bits in (8, 10):
        made, _, estimate = _ours(clean, bits, ModeSetting(operation_mode=OperationMode.VIDEO))
        value = round(psnr(made, clean), 2)
        found[f"full_chain_{bits}_bits"] = {
            "measured_sigma_y": estimate,
            "psnr_y_db": value,
            "least_db": LEAST_CLEAN_DB,
            "met": value >= LEAST_CLEAN_DB,
        }
    return found


def _noisy(work: Path, clean: list[Planes], sigma: int) -> dict[str, Any]:
    noisy = with_noise(clean, sigma, camera=True)
    rows: dict[str, Any] = {"input": _figures(work, noisy, clean, 0.0)}
    every: list[dict[str, Any]] = []
    for name, settings in COMPETITORS.items():
        tried = []
        for setting in settings(float(sigma)):
            made, cpu = _ffmpeg(work, noisy, setting)
            tried.append({"setting": setting, **_figures(work, made, clean, cpu, with_ssim=False)})
        every += tried
        best = max(tried, key=lambda row: row["psnr_y_db"])
        made, _ = _ffmpeg(work, noisy, best["setting"])
        rows[name] = {**best, "ssim_y": _ssim(work, made, clean), "settings_tried": len(tried)}
    made, cpu, estimate = _ours(noisy, 8, _denoising_only())
    ours = _figures(work, made, clean, cpu)
    rows["ours"] = {"measured_sigma_y": estimate, **ours}
    deep = with_noise(clean, sigma, 10, camera=True)
    made, cpu, _ = _ours(deep, 10, _denoising_only())
    rows["ours_10_bits"] = {"psnr_y_db": round(psnr(made, clean), 2), "cpu_seconds": round(cpu, 2)}
    made, cpu, _ = _ours(noisy, 8, ModeSetting(operation_mode=OperationMode.VIDEO))
    rows["ours_full_chain"] = _figures(work, made, clean, cpu)
    rows["ours_encoded"] = _figures(work, _encoded(work, made), clean, cpu)
    return {"filters": rows, **_goals(ours, every)}


def _denoising_only() -> ModeSetting:
    return ModeSetting(operation_mode=OperationMode.VIDEO, sharpen_strength=0.0)


def _goals(ours: dict[str, Any], every: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ours against every setting that was tried, not only against each filter's best."""
    as_cheap = [row for row in every if row["cpu_seconds"] <= ours["cpu_seconds"]]
    cheap_best = max((row["psnr_y_db"] for row in as_cheap), default=0.0)
    best = max(row["psnr_y_db"] for row in every)
    return {
        "better_than_all_as_cheap": {
            "ahead_db": round(ours["psnr_y_db"] - cheap_best, 2),
            "settings_as_cheap": len(as_cheap),
            "met": ours["psnr_y_db"] > cheap_best,
        },
        "near_the_best_at_any_cost": {
            "ahead_db": round(ours["psnr_y_db"] - best, 2),
            "met": ours["psnr_y_db"] >= best - MOST_BEHIND_DB,
        },
    }


def _ours(clip: list[Planes], bits: int, setting: ModeSetting) -> tuple[list[Planes], float, float]:
    """Enhance as the service would; CPU seconds; the noise that was measured."""
    frames = to_frames(clip, bits)
    middle = max(0, (len(frames) - MEASURED_FRAMES) // 2)
    noise = estimate_frames(frames[middle : middle + MEASURED_FRAMES])
    began = time.process_time()
    made = enhance(frames, build_chain(setting, noise, bits).filters)
    return made, time.process_time() - began, noise.sigma_y


def _figures(
    work: Path, made: list[Planes], clean: list[Planes], cpu: float, *, with_ssim: bool = True
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "psnr_y_db": round(psnr(made, clean), 2),
        "psnr_u_db": round(psnr(made, clean, 1), 2),
        "cpu_seconds": round(cpu, 2),
    }
    return {**figures, "ssim_y": _ssim(work, made, clean)} if with_ssim else figures


def _ffmpeg(work: Path, clip: list[Planes], filters: str) -> tuple[list[Planes], float]:
    """What the ffmpeg program's filter makes of a clip, and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = _through(work, clip, ["-vf", filters, "-pix_fmt", "yuv420p", "-f", "rawvideo"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return _read(made, clip), cpu


def _encoded(work: Path, clip: list[Planes]) -> list[Planes]:
    """The clip after an encoder."""
    video = _through(work, clip, [*ENCODER, "-f", "matroska"])
    raw = work / "decoded.raw"
    _run(["-i", str(video), "-pix_fmt", "yuv420p", "-f", "rawvideo", str(raw)])
    return _read(raw, clip)


def _ssim(work: Path, clip: list[Planes], clean: list[Planes]) -> float:
    """SSIM of luma (Wang et al., 2004), as the ffmpeg program's ssim filter has it."""
    _write(work / "a.raw", clip)
    _write(work / "b.raw", clean)
    told = _run(
        [*_raw(work / "a.raw", clip), *_raw(work / "b.raw", clean), "-lavfi", "ssim", "-f", "null", "-"]
    )
    found = re.search(r"SSIM Y:([\d.]+)", told)
    assert found is not None
    return round(float(found[1]), 4)


def _through(work: Path, clip: list[Planes], arguments: Sequence[str]) -> Path:
    source, made = work / "in.raw", work / "out.bin"
    _write(source, clip)
    _run([*_raw(source, clip), *arguments, str(made)])
    return made


def _raw(path: Path, clip: list[Planes]) -> list[str]:
    height, width = clip[0][0].shape
    return ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "30", "-i", str(path)]


def _run(arguments: Sequence[str]) -> str:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-hide_banner", "-y", "-threads", "1", "-filter_threads", "1"),
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stderr


def _write(path: Path, clip: list[Planes]) -> None:
    path.write_bytes(
        b"".join(np.rint(plane).astype(np.uint8).tobytes() for planes in clip for plane in planes)
    )


def _read(path: Path, like: list[Planes]) -> list[Planes]:
    values = np.frombuffer(path.read_bytes(), np.uint8).astype(np.float64)
    shapes = [plane.shape for plane in like[0]]
    clip, position = [], 0
    for _ in like:
        planes = []
        for rows, columns in shapes:
            planes.append(values[position : position + rows * columns].reshape(rows, columns))
            position += rows * columns
        clip.append(planes)
    assert position == len(values), "the program gave another number of frames"
    return clip


def plot(measured: dict[str, Any], path: Path) -> None:
    """Draw PSNR of luma by clip and sigma as PATH.svg, and write the table as PATH.md."""
    clips = {name: figures for name, figures in measured.items() if "skipped" not in figures}
    path.with_suffix(".svg").write_text(_drawing(clips))
    path.with_suffix(".md").write_text(_table(clips))


_SHOWN: Final = ("input", *COMPETITORS, "ours", "ours_full_chain", "ours_encoded")
_COLOURS: Final = (
    "#bbb",
    "#8dd3c7",
    "#fdb462",
    "#80b1d3",
    "#b3de69",
    "#bc80bd",
    "#d62728",
    "#e7797a",
    "#f3bcbc",
)


def _drawing(clips: Mapping[str, Any]) -> str:
    """Bars from 20 dB, a group for each sigma, a row for each clip."""
    bar, row, left = 14, 150, 40
    group = bar * len(_SHOWN) + 30
    width, height = left + group * len(SIGMAS), row * len(clips) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="10">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, (name, colour) in enumerate(zip(_SHOWN, _COLOURS, strict=True)):
        x = left + place * (width - left) // len(_SHOWN)
        parts.append(f'<rect x="{x}" y="6" width="8" height="8" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10}" y="14" font-size="8">{name}</text>')
    for line, (clip, figures) in enumerate(clips.items()):
        base = 30 + row * (line + 1) - 20
        for column, sigma in enumerate(SIGMAS):
            x = left + group * column
            parts.append(f'<text x="{x}" y="{base + 12}">{clip}, sigma {sigma}: PSNR of luma, dB</text>')
            for place, name in enumerate(_SHOWN):
                value = figures[f"sigma_{sigma}"]["filters"][name]["psnr_y_db"]
                tall = max(1.0, (min(value, 50.0) - 20) * 3.5)
                parts.append(
                    f'<rect x="{x + place * bar}" y="{base - tall:.1f}" width="{bar - 2}" height="{tall:.1f}"'
                    f' fill="{_COLOURS[place]}"/>'
                )
                parts.append(
                    f'<text x="{x + place * bar - 1}" y="{base - tall - 2:.1f}" font-size="6">{value:.1f}</text>'
                )
    return "\n".join([*parts, "</svg>", ""])


def _table(clips: Mapping[str, Any]) -> str:
    lines = [
        "# Denoising, measured",
        "",
        "Made by `python scripts/bench_quality.py --only denoise --out docs/results`. "
        + " ".join((__doc__ or "").split("\n\n")[1].split()),
        "",
        "PSNR of luma in dB / of blue difference / SSIM of luma / CPU seconds. Ours is the denoising stage alone, before sharpening.",
        "",
        "| clip | sigma | "
        + " | ".join(_SHOWN)
        + " | 10 bits, PSNR | ahead of all as cheap, dB | ahead of the best, dB |",
        "|---|---|" + "---|" * (len(_SHOWN) + 3),
    ]
    for clip, figures in clips.items():
        for sigma in SIGMAS:
            found = figures[f"sigma_{sigma}"]
            cells = [
                f"{row['psnr_y_db']:.2f} / {row['psnr_u_db']:.1f} / {row['ssim_y']:.3f} / {row['cpu_seconds']:.1f}"
                for row in (found["filters"][name] for name in _SHOWN)
            ]
            ahead = [
                found[goal]["ahead_db"] for goal in ("better_than_all_as_cheap", "near_the_best_at_any_cost")
            ]
            deep = found["filters"]["ours_10_bits"]["psnr_y_db"]
            lines.append(
                f"| {clip} | {sigma} | "
                + " | ".join(cells)
                + f" | {deep:.2f} | {ahead[0]:+.2f} | {ahead[1]:+.2f} |"
            )
    lines += [
        "",
        "A clean clip after the full chain, PSNR of luma in dB against itself:",
        "",
        "| clip | 8 bits | 10 bits |",
        "|---|---|---|",
    ]
    for clip, figures in clips.items():
        values = [figures["clean"][f"full_chain_{bits}_bits"]["psnr_y_db"] for bits in (8, 10)]
        lines.append(f"| {clip} | {values[0]:.1f} | {values[1]:.1f} |")
    return "\n".join([*lines, ""])
