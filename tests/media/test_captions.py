"""Closed captions within pictures (CTA-708 in ATSC A/53 messages) come out with the frame they went in with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.packet import Packet

from media_factory import make_clip
from media_tasks import SOME_NOISE, encode, plan_file
from videoprocess_server.model.hdi import EncodeType
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import StreamInfo

FRAMES = 24
MUCH_NOISE = NoiseEstimate(sigma_y=5.0, sigma_u=4.0, sigma_v=4.0, frame_count=3)
#: by codec: the head of a unit of messages
HEADS = {"libx264": bytes((6,)), "libx265": bytes((39 << 1, 1))}


def _triplet(number: int) -> bytes:
    """One pair of characters, other ones in each frame."""
    return bytes((0xFC, 0x41 + number, 0x80 + number))


def _message(head: bytes, number: int) -> bytes:
    body = b"\xb5\x00\x31GA94\x03\x41\xff" + _triplet(number) + b"\xff"
    unit = head + bytes((4, len(body))) + body + b"\x80"
    return len(unit).to_bytes(4, "big") + unit


def _captioned(folder: Path, codec: str) -> Path:
    plain = make_clip(
        folder / "plain.mp4", width=128, height=96, frames=FRAMES, codec=codec, gop=6, b_frames=2
    ).path
    path = folder / "captioned.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        track = source.streams.video[0]
        copy = out.add_stream_from_template(track, opaque=True)
        order = sorted(packet.pts or 0 for packet in source.demux(track) if packet.size)
        source.seek(0)
        for packet in source.demux(track):
            if packet.size:
                captioned = Packet(_message(HEADS[codec], order.index(packet.pts or 0)) + bytes(packet))
                captioned.pts, captioned.dts, captioned.duration = packet.pts, packet.dts, packet.duration
                captioned.time_base, captioned.is_keyframe = packet.time_base, packet.is_keyframe
                captioned.stream = copy
                out.mux(captioned)
    return path


def _captions(path: Path) -> list[bytes]:
    with av.open(str(path)) as clip:
        return [
            bytes(frame.side_data.get("A53_CC") or b"")  # type: ignore[call-overload]
            for frame in clip.decode(video=0)
        ]


@pytest.mark.parametrize("noise", [SOME_NOISE, MUCH_NOISE], ids=["sharpened", "denoised"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("made", [EncodeType.H264, EncodeType.H265])
def test_captions_stay_with_their_frames(
    tmp_path: Path, codec: str, made: EncodeType, noise: NoiseEstimate
) -> None:
    path = _captioned(tmp_path, codec)
    assert _captions(path) == [_triplet(number) for number in range(FRAMES)]
    wish = StreamInfo(stream_id=1, intent=plan_file(path).renditions[0].intent, encode_type=made)
    plan = plan_file(path, streams=[wish], segment_seconds=Fraction(2, 5), noise=noise)
    encode(path, plan, plan.segments, tmp_path / "made")
    shown = [
        caption
        for segment in plan.segments
        for caption in _captions(tmp_path / "made" / f"{segment.index}.mp4")
    ]
    assert len(plan.segments) == 2
    assert shown == [_triplet(number) for number in range(FRAMES)]
