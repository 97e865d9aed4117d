"""How tasks and answers become bytes: a table from the name of a model class to the class, and MessagePack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec

from videoprocess_server.execution.worker_spans import TaskSpans, Traced
from videoprocess_server.model.media_info import MediaInfo
from videoprocess_server.model.noise import AnalyzeResult
from videoprocess_server.model.plan import Plan
from videoprocess_server.model.tasks import (
    AnalyzeTask,
    BuildInfo,
    DescribeTask,
    DigestResult,
    DigestTask,
    EncodeResult,
    EncodeTask,
    JoinResult,
    JoinTask,
    MakerResult,
    MakerTask,
    MotionTask,
    PathResult,
    PathTask,
    PlanTask,
    ProbeTask,
    Progress,
    SegmentDone,
    StillsResult,
    StillsTask,
    StripResult,
    StripTask,
    Task,
    TaskResult,
    VerifyResult,
    VerifyTask,
    WatermarkInfo,
    WatermarkTask,
)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A worker's first message: it has loaded what it needs, and is confined."""

    #: what confines it, see sandbox
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """A worker that has a task lives; whether the task gets on is another question."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A worker's answer to a task that cannot be done."""

    reason: str
    message: str
    #: a traceback for the service's log, never for callers; "" where the failure was foreseen
    detail: str = ""


class CodecError(Exception):
    """Bytes that are no message, or a message that is too large."""


#: what each task is answered with
RESULT_OF: Mapping[type[Task], type[TaskResult]] = {
    DescribeTask: BuildInfo,
    ProbeTask: MediaInfo,
    WatermarkTask: WatermarkInfo,
    AnalyzeTask: AnalyzeResult,
    PlanTask: Plan,
    EncodeTask: EncodeResult,
    MotionTask: EncodeResult,
    PathTask: PathResult,
    DigestTask: DigestResult,
    JoinTask: JoinResult,
    StillsTask: StillsResult,
    MakerTask: MakerResult,
    StripTask: StripResult,
    VerifyTask: VerifyResult,
}

Message = Task | TaskResult | Progress | SegmentDone | Ready | Heartbeat | Failed | Traced | TaskSpans

_CLASSES: Mapping[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        *RESULT_OF.keys(),
        *RESULT_OF.values(),
        Progress,
        SegmentDone,
        Ready,
        Heartbeat,
        Failed,
        Traced,
        TaskSpans,
    )
}


class _Envelope(msgspec.Struct):
    kind: str
    body: msgspec.Raw


def encode(message: Message) -> bytes:
    """Return a message as bytes."""
    body = msgspec.Raw(_ENCODER.encode(message))
    return _ENCODER.encode(_Envelope(kind=type(message).__name__, body=body))


def decode(data: bytes) -> Message:
    """Return the message that `encode` made bytes of.

    Raises:
        CodecError: these bytes are none.
    """
    try:
        envelope = _ENVELOPE_DECODER.decode(data)
        return _DECODERS[envelope.kind].decode(envelope.body)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise CodecError(f"not a message: {error}") from error


def _to_plain(value: Any) -> str:  # noqa: ANN401  msgspec hands over whatever it does not know
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    raise NotImplementedError(f"{type(value).__name__} cannot be sent")


def _from_plain(kind: type, value: Any) -> Fraction:  # noqa: ANN401  whatever the other side sent
    if kind is Fraction and isinstance(value, str):
        try:
            return Fraction(value)
        except ZeroDivisionError as error:
            raise ValueError(f"{value} is no fraction") from error
    raise NotImplementedError(f"{kind.__name__} cannot be received")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_plain)
_ENVELOPE_DECODER = msgspec.msgpack.Decoder(_Envelope)
_DECODERS = {name: msgspec.msgpack.Decoder(kind, dec_hook=_from_plain) for name, kind in _CLASSES.items()}
