"""Sizes, times and reports as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from videoprocess.v1.job_pb2 import JobPhase
from videoprocess.v1.report_pb2 import NotKept, NotKeptCategory, ProcessReport
from videoprocess_client.names import short_name

_LABEL_WIDTH = 10

# A line of `status` and of the progress has room for so much.
_BLOCKED: Mapping[str, str] = {
    "SPACE_LIMIT": "disk or quota full",
    "OVERHEAT": "machine too hot or busy",
    "PREEMPTED": "urgent work goes first",
    "DRAINING": "server is stopping",
    "STARTING": "server is starting",
    "FAIR_SHARE": "other users' turn",
    "QUIET_HOURS": "quiet hours",
    "MANUAL": "held by the operator",
    "STORE_UNREACHABLE": "server's store is away",
    "RETRY_BACKOFF": "pause before another try",
}


def megabytes(size_bytes: int) -> str:
    """A size in MB, or in smaller units where that says more."""
    for limit, unit in ((1_000_000, "MB"), (1_000, "kB")):
        if size_bytes >= limit:
            return f"{size_bytes / limit:.1f} {unit}"
    return f"{size_bytes} B"


def clock(seconds: float) -> str:
    """A length of time, e.g. `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def words(name: str) -> str:
    """An enum's name for people, e.g. `space limit`."""
    return name.lower().replace("_", " ")


def blocked(name: str) -> str:
    """What holds work back, for people, by the short name of a `BlockReason`."""
    return _BLOCKED.get(name, words(name))


def labelled(label: str, text: str) -> str:
    """A line of a report."""
    return f"  {label:<{_LABEL_WIDTH}} {text}"


def published_lines(report: ProcessReport) -> Iterator[str]:
    """Where on the server the results were written to."""
    places = (file.published_path for file in report.artifacts if file.HasField("published_path"))
    yield from (labelled("published", f"{place.root}:{place.path}") for place in places)


def report_lines(report: ProcessReport, source_bytes: int, output_bytes: int) -> Iterator[str]:
    """What a job did, in a few lines.

    Args:
        report: The job's report.
        source_bytes: Size of the source in bytes.
        output_bytes: Size of the enhanced video in bytes.
    """
    frames = report.frames
    detail = f"{frames.enhanced} enhanced, {frames.carried_over} carried over, {frames.dropped} dropped"
    if frames.interpolated:
        detail += f", {frames.interpolated} made up"
    yield labelled("frames", f"{frames.source} in, {frames.encoded} out ({detail})")
    yield labelled("size", f"{megabytes(source_bytes)} in, {megabytes(output_bytes)} out")
    yield labelled("noise", ", ".join(_noise(report)) or "not measured")
    if report.quality:
        yield labelled("quality", ", ".join(_quality(report)))
    stages = (f"{words(_phase(s.phase))} {s.wall_seconds:.1f}" for s in report.stages)
    yield labelled("seconds", ", ".join(stages) or "none")
    if report.reused_segment_count:
        yield labelled(
            "segments", f"{report.segment_count}, of these {report.reused_segment_count} from before"
        )
    if not report.not_kept:
        yield labelled("not kept", "nothing, all was kept")
    for entry in report.not_kept:
        yield labelled("not kept", _not_kept(entry))


def _phase(number: int) -> str:
    return short_name(JobPhase.DESCRIPTOR, number)


def _noise(report: ProcessReport) -> Iterator[str]:
    has_after = any(plane.sigma_after for plane in report.noise.planes)
    for plane in report.noise.planes:
        after = f" -> {plane.sigma_after:.2f}" if has_after else ""
        yield f"{plane.plane} {plane.sigma_before:.2f}{after}"


def _quality(report: ProcessReport) -> Iterator[str]:
    """The figures of the whole video that say most."""
    found = {score.name: score.value for score in report.quality}
    for name, unit in (("sharpness", ""), ("jitter", " px")):
        before, after = found.get(f"{name}_before"), found.get(f"{name}_after")
        if after is not None:
            yield (
                f"{name} {after:.2f}{unit}" if before is None else f"{name} {before:.2f} -> {after:.2f}{unit}"
            )
    for name, label, decimals, unit in _SINGLE_FIGURES:
        if name in found:
            yield f"{label} {found[name]:.{decimals}f}{unit}"


# Name of the score, what it is called here, decimals, unit.
_SINGLE_FIGURES = (
    ("ssim", "SSIM", 4, ""),
    ("xpsnr", "XPSNR", 1, " dB"),
    ("xpsnr_at_seams", "at seams", 1, " dB"),
)


def _not_kept(entry: NotKept) -> str:
    what = words(short_name(NotKeptCategory.DESCRIPTOR, entry.what))
    if entry.HasField("track_index"):
        is_track = entry.what == NotKeptCategory.NOT_KEPT_CATEGORY_TRACK
        what = f"track {entry.track_index}" if is_track else f"{what} of track {entry.track_index}"
    return f"{what}{f' ({entry.count})' if entry.count > 1 else ''}: {entry.reason}"
