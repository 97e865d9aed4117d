"""The recorder's encParam: pairs that can be read are read, others are named, and none is taken for something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videoprocess_server.model.enc_param import BFrameGopMode, BitrateMode, EncParam, parse_enc_param

#: as a recorder of moving photos writes it
_WHOLE = (
    "video_encode_bitrate_mode=SQR:bitrate=24000000:video_encoder_enable_b_frame=1:"
    "video_encode_b_frame_gop_mode=H3B:sqr_factor=28"
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", EncParam()),
        (
            _WHOLE,
            EncParam(
                bitrate=24_000_000,
                bitrate_mode=BitrateMode.SQR,
                b_frames=True,
                b_frame_gop_mode=BFrameGopMode.H3B,
                sqr_factor=28,
            ),
        ),
        ("video_encode_bitrate_mode=0", EncParam(bitrate_mode=BitrateMode.CBR)),
        ("video_encode_bitrate_mode=11", EncParam(bitrate_mode=BitrateMode.CRF)),
        ("video_encode_bitrate_mode=cbr_videocall", EncParam(bitrate_mode=BitrateMode.CBR_VIDEOCALL)),
        (" bitrate = 5 :: ", EncParam(bitrate=5)),
        ("bitrate=1:bitrate=2", EncParam(bitrate=2)),
        ("video_encode_bitrate_mode=TURBO", EncParam(unread=("video_encode_bitrate_mode=TURBO",))),
        ("video_encode_bitrate_mode=7", EncParam(unread=("video_encode_bitrate_mode=7",))),
        ("bitrate=-1:sqr_factor=0", EncParam(unread=("bitrate=-1", "sqr_factor=0"))),
        ("bitrate=1e6:sqr_factor=٣", EncParam(unread=("bitrate=1e6", "sqr_factor=٣"))),
        ("bitrate=" + "9" * 19, EncParam(unread=("bitrate=" + "9" * 19,))),
        (
            "video_encoder_enable_b_frame=2:colour=red",
            EncParam(unread=("video_encoder_enable_b_frame=2", "colour=red")),
        ),
    ],
)
def test_what_can_be_read_is_read(text: str, read: EncParam) -> None:
    assert parse_enc_param(text) == read


@given(
    text=st.text(alphabet=st.sampled_from("bitrate=video_encode_bitrate_modeCRF0123456789:sqr_factor é\0"))
)
def test_any_text_has_an_answer(text: str) -> None:
    read = parse_enc_param(text)
    assert read.bitrate is None or read.bitrate > 0
    assert read.sqr_factor is None or read.sqr_factor > 0


def test_a_long_text_is_cut() -> None:
    read = parse_enc_param("x=1:" * 100_000)
    assert len(read.unread) < 2_000
    assert read.unread[-1] == "…"
