"""Requests become model values, or are refused by the name of the field that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from videoprocess.v1 import hdi_enums_pb2 as hdi
from videoprocess.v1 import job_pb2, types_pb2, video_pb2, video_process_service_pb2
from videoprocess.v1 import mode_setting_pb2 as mode
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.engine.source_files import TokenReference, UploadReference
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.media.build_info import FILTERS
from videoprocess_server.model.hdi import (
    EncodeType,
    ExtendedStreamInfoType,
    OperationMode,
    StreamIntent,
    VideoStabilisation,
)
from videoprocess_server.model.mode_setting import TypedSettings
from videoprocess_server.model.records import Priority, Video
from videoprocess_server.model.settings_snapshot import (
    ExtendedStream,
    FrameRateRange,
    ModeSetting,
    Rect,
    StreamInfo,
    Watermark,
)
from videoprocess_server.model.states import VideoState
from videoprocess_server.rpc.convert import fields, jobs, settings, streams, videos
from videoprocess_server.rpc.page_tokens import page_token, position_of

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def refusal_of(call: Callable[..., Any], *args: Any) -> tuple[str, list[str]]:
    """The reason a call is refused for, and the fields it names."""
    with pytest.raises(VideoProcessError) as refusal:
        call(*args)
    assert refusal.value.message
    return refusal.value.reason, list(refusal.value.violations)


def wrapped(**stream: Any) -> types_pb2.StreamInfoV11:
    return types_pb2.StreamInfoV11(v1_0=types_pb2.StreamInfo(**stream))


class TestFields:
    def test_user_0_is_a_user_and_absence_is_none(self) -> None:
        request = video_process_service_pb2.GetCapabilitiesRequest(user_id=0)
        assert fields.user_id_of(request) == 0
        absent = video_process_service_pb2.GetCapabilitiesRequest()
        assert refusal_of(fields.user_id_of, absent) == ("MISSING_FIELD", ["user_id"])

    def test_a_request_id_is_a_uuid_of_any_case_or_absent(self) -> None:
        assert [fields.request_id_of(text) for text in ("", UUID, UUID.upper())] == ["", UUID, UUID]
        for text in ("x", UUID + "0", f"{{{UUID}}}", UUID.replace("-", ""), "ü" * 36):
            assert refusal_of(fields.request_id_of, text) == ("INVALID_FIELD", ["request_id"])

    def test_page_sizes_are_clamped_and_never_negative(self) -> None:
        assert [fields.page_size_of(size, 100, 500) for size in (0, 1, 500, 2**31 - 1)] == [100, 1, 500, 500]
        assert refusal_of(fields.page_size_of, -1, 100, 500) == ("INVALID_FIELD", ["page_size"])


class TestStreams:
    def test_a_stream_with_everything_set(self) -> None:
        message = types_pb2.StreamInfoV11(
            v1_0=types_pb2.StreamInfo(
                stream_id=7,
                width=1920,
                height=1080,
                format=35,
                dataspace=4457732,
                intent=hdi.STREAM_INTENT_VIDEO,
                tunneled_mode=True,
                buffer_queue=types_pb2.BufferQueue(keep=types_pb2.KeepForDownload()),
                min_frame_duration=3,
                encode_type=hdi.ENCODE_TYPE_H265,
            ),
            extended_stream_infos=[
                types_pb2.ExtendedStreamInfo(
                    type=hdi.EXTENDED_STREAM_INFO_TYPE_MAKER_INFO, width=1, height=2, format=3, dataspace=4
                )
            ],
        )
        expected = StreamInfo(
            stream_id=7,
            intent=StreamIntent.VIDEO,
            encode_type=EncodeType.H265,
            width=1920,
            height=1080,
            format=35,
            dataspace=4457732,
            tunneled_mode=True,
            min_frame_duration=3,
            extended=(
                ExtendedStream(
                    type=ExtendedStreamInfoType.MAKER_INFO, width=1, height=2, format=3, dataspace=4
                ),
            ),
        )
        assert [expected] == streams.stream_infos([message])

    @pytest.mark.parametrize("intent", StreamIntent)
    def test_every_intent_is_taken_and_no_encode_type_is_null(self, intent: StreamIntent) -> None:
        message = wrapped(stream_id=0, intent=int(intent))
        assert [StreamInfo(stream_id=0, intent=intent)] == streams.stream_infos([message])

    @pytest.mark.parametrize(
        ("message", "reason", "field"),
        [
            (types_pb2.StreamInfoV11(), "MISSING_FIELD", "v1_0"),
            (wrapped(stream_id=1), "MISSING_FIELD", "v1_0.intent"),
            (wrapped(intent=77), "INVALID_FIELD", "v1_0.intent"),
            (wrapped(intent=-1), "INVALID_FIELD", "v1_0.intent"),
            (wrapped(intent=1, encode_type=99), "INVALID_FIELD", "v1_0.encode_type"),
            (
                wrapped(
                    intent=1,
                    buffer_queue=types_pb2.BufferQueue(directory=types_pb2.SharedDirectory(path="p")),
                ),
                "MISSING_FIELD",
                "v1_0.buffer_queue.directory.root",
            ),
            (
                types_pb2.StreamInfoV11(
                    v1_0=types_pb2.StreamInfo(intent=hdi.STREAM_INTENT_VIDEO),
                    extended_stream_infos=[
                        types_pb2.ExtendedStreamInfo(
                            type=hdi.EXTENDED_STREAM_INFO_TYPE_MAKER_INFO,
                            buffer_queue=types_pb2.BufferQueue(directory=types_pb2.SharedDirectory(root="r")),
                        )
                    ],
                ),
                "METHOD_NOT_SUPPORTED",
                "extended_stream_infos[0].buffer_queue.directory",
            ),
            (
                types_pb2.StreamInfoV11(
                    v1_0=types_pb2.StreamInfo(intent=hdi.STREAM_INTENT_VIDEO),
                    extended_stream_infos=[types_pb2.ExtendedStreamInfo()],
                ),
                "MISSING_FIELD",
                "extended_stream_infos[0].type",
            ),
            (
                types_pb2.StreamInfoV11(
                    v1_0=types_pb2.StreamInfo(intent=hdi.STREAM_INTENT_VIDEO),
                    extended_stream_infos=[types_pb2.ExtendedStreamInfo(type=16)],  # type: ignore[arg-type]
                ),
                "INVALID_FIELD",
                "extended_stream_infos[0].type",
            ),
            (
                types_pb2.StreamInfoV11(
                    v1_0=types_pb2.StreamInfo(intent=hdi.STREAM_INTENT_VIDEO),
                    extended_stream_infos=[
                        types_pb2.ExtendedStreamInfo(type=hdi.EXTENDED_STREAM_INFO_TYPE_RAW, width=-1)
                    ],
                ),
                "INVALID_FIELD",
                "extended_stream_infos[0].width",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, message: types_pb2.StreamInfoV11, reason: str, field: str) -> None:
        good = wrapped(intent=1)
        assert (reason, [f"stream_infos[1].{field}"]) == refusal_of(streams.stream_infos, [good, message])

    def test_releasing_reads_the_id_alone(self) -> None:
        assert streams.stream_ids([wrapped(), wrapped(stream_id=5, intent=77)]) == [0, 5]
        empty = [types_pb2.StreamInfoV11()]
        assert refusal_of(streams.stream_ids, empty) == ("MISSING_FIELD", ["stream_infos[0].v1_0"])


class TestSettings:
    def test_absent_and_empty_are_the_defaults(self) -> None:
        for request in (
            session.CommitStreamsRequest(),
            session.CommitStreamsRequest(serialized=b""),
            session.CommitStreamsRequest(typed=mode.ModeSetting()),
        ):
            assert ModeSetting() == settings.mode_setting(request, (), FILTERS)

    def test_both_forms_mean_the_same(self) -> None:
        serialized = bytes.fromhex(
            "020000000a00000068000000000000000600001001000000020000001e0000001e000000"
            "0100000001000510030000000100000000000040"
        )
        typed = mode.ModeSetting(zoom_ratio=2, frame_rate_range=mode.FrameRateRange(min_fps=30, max_fps=30))
        assert settings.mode_setting(
            session.CommitStreamsRequest(serialized=serialized), (), FILTERS
        ) == settings.mode_setting(session.CommitStreamsRequest(typed=typed), (), FILTERS)

    def test_the_typed_form_with_everything_set(self) -> None:
        message = mode.ModeSetting(
            operation_mode=hdi.OPERATION_MODE_VIDEO,
            frame_rate_range=mode.FrameRateRange(min_fps=24, max_fps=30),
            zoom_ratio=1.5,
            zoom_crop_region=mode.Rect(x=1, y=2, width=3, height=4),
            video_stabilization=hdi.VIDEO_STABILIZATION_HIGH,
            mirror=True,
            orientation_degrees=90,
            enhancement=mode.Enhancement(denoise_strength=0.25, sharpen_strength=0.5, deband_strength=0.75),
            quality=mode.Quality(crf=18),
            tone_mapping=mode.TONE_MAPPING_TO_SDR,
            watermark=mode.Watermark(scale_factor=2, rotation_degrees=90, x=-1, y=2, width=3, height=4),
            damage=mode.DAMAGE_HANDLING_CONCEAL,
            moov_first=False,
        )
        expected = TypedSettings(
            operation_mode=OperationMode.VIDEO,
            frame_rate_range=FrameRateRange(min_fps=24, max_fps=30),
            zoom_ratio=1.5,
            zoom_crop_region=Rect(x=1, y=2, width=3, height=4),
            video_stabilization=3,
            mirror=True,
            orientation_degrees=90,
            denoise_strength=0.25,
            sharpen_strength=0.5,
            deband_strength=0.75,
            crf=18,
            tone_mapping=2,
            watermark=Watermark(
                image=b"", scale_factor=2.0, rotation_degrees=90, x=-1, y=2, width=3, height=4
            ),
            damage=2,
            moov_first=False,
        )
        assert expected == settings.typed_settings(message)
        rate = mode.ModeSetting(quality=mode.Quality(bitrate_bps=5))
        assert TypedSettings(bitrate_bps=5) == settings.typed_settings(rate)

    def test_the_picture_of_a_watermark_is_a_file(self) -> None:
        def image_of(watermark: mode.Watermark | None) -> object:
            typed = mode.ModeSetting(watermark=watermark)
            return settings.watermark_image(session.CommitStreamsRequest(typed=typed))

        uploaded = types_pb2.FileDescriptor(upload_id="u")
        assert image_of(mode.Watermark(image=uploaded)) == UploadReference(upload_id="u")
        assert image_of(None) is None
        assert settings.watermark_image(session.CommitStreamsRequest(serialized=b"")) is None
        assert refusal_of(image_of, mode.Watermark(x=1)) == ("MISSING_FIELD", ["typed.watermark.image"])
        token = mode.Watermark(image=types_pb2.FileDescriptor(fd_token="t"))
        assert image_of(token) == TokenReference(token="t")

    def test_zeros_that_are_set_are_told_from_absence(self) -> None:
        message = mode.ModeSetting(
            operation_mode=hdi.OPERATION_MODE_NORMAL,
            zoom_ratio=0,
            video_stabilization=hdi.VIDEO_STABILIZATION_OFF,
            mirror=False,
            orientation_degrees=0,
            tone_mapping=mode.TONE_MAPPING_KEEP,
        )
        expected = TypedSettings(
            operation_mode=0,
            zoom_ratio=0,
            video_stabilization=0,
            mirror=False,
            orientation_degrees=0,
            tone_mapping=1,
        )
        assert expected == settings.typed_settings(message)

    @pytest.mark.parametrize(
        ("request_fields", "reason", "field"),
        [
            ({"serialized": b"\x01\x02\x03"}, "METADATA_MALFORMED", "mode_setting"),
            ({"serialized": bytes(256 * 1024 + 1)}, "METADATA_TOO_LARGE", "mode_setting"),
            ({"typed": mode.ModeSetting(zoom_ratio=0.1)}, "INVALID_SETTING", "zoom_ratio"),
            ({"typed": mode.ModeSetting(operation_mode=99)}, "INVALID_SETTING", "operation_mode"),  # type: ignore[arg-type]
            (
                {"typed": mode.ModeSetting(video_stabilization=hdi.VIDEO_STABILIZATION_AUTO)},
                "SETTING_NOT_SUPPORTED",
                "video_stabilization",
            ),
            (
                {"typed": mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_SUPER_STAB)},
                "SETTING_NOT_SUPPORTED",
                "operation_mode",
            ),
            (
                {"typed": mode.ModeSetting(operation_mode=hdi.OPERATION_MODE_PORTRAIT)},
                "SETTING_NOT_SUPPORTED",
                "operation_mode",
            ),
        ],
    )
    def test_what_cannot_be_taken_is_named(
        self, request_fields: dict[str, Any], reason: str, field: str
    ) -> None:
        request = session.CommitStreamsRequest(**request_fields)
        assert (reason, [field]) == refusal_of(
            lambda asked: settings.mode_setting(asked, (), FILTERS), request
        )

    def test_with_its_extra_stabilisation_is_taken(self) -> None:
        request = session.CommitStreamsRequest(
            typed=mode.ModeSetting(video_stabilization=hdi.VIDEO_STABILIZATION_AUTO)
        )
        assert settings.mode_setting(request, {"stabilise": "5"}, FILTERS) == ModeSetting(
            stabilisation=VideoStabilisation.AUTO
        )

    def test_tones_are_mapped_only_where_the_build_can(self) -> None:
        request = session.CommitStreamsRequest(typed=mode.ModeSetting(tone_mapping=mode.TONE_MAPPING_TO_SDR))
        assert settings.mode_setting(request, (), FILTERS) == ModeSetting(to_sdr=True)
        without = set(FILTERS) - {"tone_map"}
        told = refusal_of(lambda asked: settings.mode_setting(asked, (), without), request)
        assert told == ("SETTING_NOT_SUPPORTED", ["tone_mapping"])


class TestProcessVideo:
    def test_everything_set(self) -> None:
        request = jobs.process_request(
            session.ProcessVideoRequest(
                video_id="v", timestamp_us=5, priority=job_pb2.PRIORITY_HIGH, request_id=UUID.upper()
            )
        )
        assert (
            request.video_id,
            request.timestamp_us,
            request.priority,
            request.request_id,
        ) == ("v", 5, Priority.HIGH, UUID)

    def test_an_absent_priority_leaves_it_to_the_service_and_an_unknown_one_is_refused(self) -> None:
        assert jobs.process_request(session.ProcessVideoRequest()).priority is None
        high = session.ProcessVideoRequest(priority=job_pb2.PRIORITY_HIGH)
        assert Priority.HIGH is jobs.process_request(high).priority
        unknown = session.ProcessVideoRequest(priority=9)  # type: ignore[arg-type]
        assert refusal_of(jobs.process_request, unknown) == ("INVALID_FIELD", ["priority"])

    def test_a_time_stamp_beyond_the_stores_numbers_is_the_largest(self) -> None:
        request = session.ProcessVideoRequest(timestamp_us=2**64 - 1)
        assert jobs.process_request(request).timestamp_us == 2**63 - 1


class TestLists:
    def test_no_states_are_all_but_deleted(self) -> None:
        assert set(VideoState) - {VideoState.DELETED} == videos.video_states([])
        both = [video_pb2.VIDEO_STATE_DELETED, video_pb2.VIDEO_STATE_ERROR]
        assert {VideoState.DELETED, VideoState.ERROR} == videos.video_states(both)

    @pytest.mark.parametrize("number", [0, 9, -1])
    def test_numbers_of_no_state_are_refused(self, number: int) -> None:
        assert refusal_of(videos.video_states, [1, number]) == ("INVALID_FIELD", ["states[1]"])

    def test_a_token_leads_to_the_next_page_of_its_own_list(self) -> None:
        video = Video(
            user_id=1, video_id="ü😀", state=VideoState.PENDING, create_time_us=123, update_time_us=456
        )
        token = page_token((video.create_time_us, video.video_id), ("a", 1))
        assert position_of(token, ("a", 1)) == (123, "ü😀")
        assert position_of("", ("a", 1)) is None
        for damaged in (token[:-4], "x" + token[1:], token + "====", "ü", "!", "A" * 4, "A" * 1_000_000):
            assert refusal_of(position_of, damaged, ("a", 1)) == ("INVALID_PAGE_TOKEN", ["page_token"])
        assert refusal_of(position_of, token, ("a", 2))[0] == "INVALID_PAGE_TOKEN"
