"""Makes the pages of docs/ that are made of the code: the API, states, errors, causes, limits and troubleshooting. `--check` says whether they are up to date."""

from __future__ import annotations

import enum
import inspect
import re
import sys
from pathlib import Path

from api_reference import reference
from troubleshooting import troubleshooting

from videoprocess.v1.report_pb2 import NotKeptCategory
from videoprocess_server.engine import faults
from videoprocess_server.errors import CATALOGUE, SLIPS
from videoprocess_server.model import losses, states
from videoprocess_server.rpc.convert.enums import LOSSES
from videoprocess_server.telemetry.metric_table import METRICS

DOCS = Path(__file__).parent.parent / "docs"
NOTICE = "<!-- Made by scripts/generate_docs.py from the code: change that, then `make docs`. -->\n"


def errors_page() -> str:
    """Return docs/errors.md."""
    rows = [
        f"| `{name}` | {row.cam_ret_code.name} ({row.cam_ret_code.value}) | {row.status.value} |"
        f" {'yes' if row.retryable else 'no'} | {row.remedy} |"
        for name, row in CATALOGUE.items()
    ]
    slips = ", ".join(f"`{name}`" for name in sorted(SLIPS))
    return (
        f"# Errors\n\n{NOTICE}\n"
        "Every error is a gRPC status with `google.rpc.ErrorInfo`: `reason` is one of these names, `domain` is\n"
        "`videoprocess`, and `metadata` holds `cam_ret_code` and `retryable`. The same reasons stand in `OnError` and in\n"
        "`Video.last_error`. [The command](client.md) adds a few of its own.\n\n"
        "| reason | CamRetCode | gRPC status | a retry can help | what to do |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nA caller's slip that only planning can find ends the job and leaves the video as it was: {slips}.\n"
    )


def states_page() -> str:
    """Return docs/states.md."""
    parts = [f"# States\n\n{NOTICE}"]
    for title, members in (
        ("Videos", states.VideoState),
        ("Jobs", states.JobState),
        ("Segments", states.SegmentState),
        ("Uploads", states.UploadState),
        ("What an accepted job waits for (`blocked_by`)", states.BlockReason),
    ):
        rows = [f"| {name} | {text} |" for name, text in _comments(members).items()]
        parts.append(f"## {title}\n\n| state | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    rows = [
        f"| {state.name} | {trigger.value} | {' or '.join(target.name for target in targets)} |"
        for (state, trigger), targets in states.VIDEO_TRANSITIONS.items()
    ]
    parts.append(
        "## Transitions of a video\n\nA new video is PENDING. RemoveVideo takes any video away, whatever its state.\n"
        "Each row is one transaction with its event.\n\n| from | trigger | to |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )
    return "\n".join(parts)


def limits_page() -> str:
    """Return docs/limits.md."""
    names = {loss.name: NotKeptCategory.Name(LOSSES[loss]) for loss in losses.Loss}
    rows = [f"| {text} | `{names[name]}` |" for name, text in _comments(losses.Loss).items()]
    return (
        f"# What a result does not keep\n\n{NOTICE}\n"
        "This is the whole list. Whatever of it happens to a video is named in its report (`ProcessReport.not_kept`), with\n"
        "a count and a sentence. Anything else that is missing from a result is a fault, and the verification before\n"
        "publishing refuses it. What was asked for (another codec, size or frame rate, SDR of HDR) is no loss.\n\n"
        "| what | `what` in the report |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


def _comments(members: type[enum.Enum]) -> dict[str, str]:
    """Return each member's `#:` comment, which stands above it."""
    found = re.findall(r"^    #: (.*)\n    (\w+) = ", inspect.getsource(members), re.MULTILINE)
    comments = {name: text for text, name in found}
    missing = [member.name for member in members if member.name not in comments]
    if missing:
        raise SystemExit(f"{members.__name__}: no comment above {', '.join(missing)}")
    return comments


def causes_page() -> str:
    """Return docs/causes.md."""
    texts = _comments(faults.Cause)
    rows = [_cause_row(cause, texts[cause.name]) for cause in faults.Cause]
    return (
        f"# Why a try of a task failed, and what follows\n\n{NOTICE}\n"
        "Media work is done in tasks: probe, analysis, plan, a run of segments, join, verification. A try that fails is\n"
        "repeated after a pause (`Limits.retry_backoff_seconds`, four times as long each time, at most\n"
        f"{faults.LONGEST_BACKOFF_SECONDS:.0f} s) as often as this table says. Crashes are counted in the segment's row, so they\n"
        "outlive the service; all that count as crashes count together. A cause that passes by itself ends no job: it goes back to\n"
        "the queue, `blocked_by` as told, and is tried again.\n\n"
        "| why | counts as a crash | tries | then `OnError` | reason | the video is then |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nA retry after running out of memory has the machine for itself: all other jobs yield at their next checkpoint.\n"
    )


def _cause_row(cause: faults.Cause, text: str) -> str:
    policy = faults.POLICIES[cause]
    if policy.max_tries == 0:
        return f"| {text} | no | without end | — | `blocked_by` {policy.blocked_by.name} | QUEUED |"
    reason = f"`{policy.reason}`" if policy.reason else "the failure's own"
    return (
        f"| {text} | {'yes' if policy.counts_as_crash else 'no'} | {policy.max_tries} |"
        f" {policy.error_code.name} | {reason} | {_STATES_AFTER[policy.trigger]} |"
    )


_STATES_AFTER = {
    states.Trigger.MEDIA_FAULT: "ERROR, final until prepared again",
    states.Trigger.GIVE_UP: "FAILED, may be processed again",
    states.Trigger.SLIP: "as it was",
}


def metrics_page() -> str:
    """Return docs/metrics.md."""
    rows = [
        f"| `{row.full_name}` | {row.kind.value} | {', '.join(f'`{name}`' for name in row.labels) or '—'} | {row.help} |"
        for row in METRICS
    ]
    return (
        f"# Metrics\n\n{NOTICE}\n"
        "What `--metrics-listen` serves ([how to see inside](observability.md)). Beside these there are `process_…` of the service's own\n"
        "process. No label holds a user, a video or any other text of a caller. Counters begin at 0 with each start.\n\n"
        "| metric | kind | labels | what |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def api_page() -> str:
    """Return docs/api.md."""
    return reference(NOTICE)


def troubleshooting_page() -> str:
    """Return docs/troubleshooting.md."""
    return troubleshooting(NOTICE)


PAGES = {
    "api.md": api_page,
    "causes.md": causes_page,
    "errors.md": errors_page,
    "limits.md": limits_page,
    "metrics.md": metrics_page,
    "states.md": states_page,
    "troubleshooting.md": troubleshooting_page,
}


def main(check: bool) -> int:
    """Write the pages, or only compare them; return an exit code."""
    stale = [name for name, make in PAGES.items() if not _is_current(DOCS / name, make())]
    for name in stale:
        if check:
            sys.stderr.write(f"docs/{name} is not what the code says: run `make docs`\n")
        else:
            (DOCS / name).write_text(PAGES[name]())
    return 1 if check and stale else 0


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
