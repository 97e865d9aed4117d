"""GetCapabilities tells what is there, and what it tells is so."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from test_convert_reports import unset

from videoprocess.v1 import capabilities_pb2
from videoprocess.v1 import hdi_enums_pb2 as hdi_pb
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.parking import ParkingLimits
from videoprocess_server.engine.sessions import ENCODE_TYPES_OF_INTENT
from videoprocess_server.engine.sources import SharedRoot
from videoprocess_server.enhance.chains import SUPPORTED_MODES, build_chain
from videoprocess_server.media.build_info import FILTERS
from videoprocess_server.model.hdi import EncodeType, OperationMode, StreamIntent
from videoprocess_server.model.mode_setting import (
    TAGS,
    SettingError,
    TypedSettings,
    from_typed,
    require_extras,
    require_filters,
)
from videoprocess_server.model.plan import NoiseEstimate, PlanSettings
from videoprocess_server.model.settings_snapshot import FrameRateRange, ModeSetting, Rect, Watermark
from videoprocess_server.model.tasks import BuildInfo, MediaLimits
from videoprocess_server.rpc.call_limits import CallLimits
from videoprocess_server.rpc.capability_facts import AccessFacts, AuthMode, CapabilityFacts, IsolationFacts
from videoprocess_server.rpc.convert import capabilities


class TestCapabilities:
    BUILD = BuildInfo(
        versions={"pyav": "18.1.0"},
        video_decoders=("h264", "hevc"),
        video_encoders=("libx264", "libx265", "mjpeg"),
        filters=("motion_denoise", "tone_map", "unsharp"),
        extras={"stabilise": "5.0.0"},
    )

    def facts(self, build: BuildInfo = BUILD) -> CapabilityFacts:
        return CapabilityFacts(
            limits=Limits(),
            media_limits=MediaLimits(),
            call_limits=CallLimits(),
            plan_settings=PlanSettings(),
            parking_limits=ParkingLimits(),
            access=AccessFacts(),
            isolation=lambda: IsolationFacts(layers=("limits", "landlock 7"), missing=("seccomp",)),
            build_info=lambda: build,
            worker_count=3,
            upload_commit_bytes=1 << 20,
            shared_roots=lambda user_id: [SharedRoot(name=f"of-{user_id}", path=None)],  # type: ignore[arg-type]
            fd_socket=lambda: Path("/data/fd.sock"),
            fd_token_seconds=60.0,
            versions={"videoprocess": "0.1.0"},
        )

    def test_paths_of_this_machine_are_told_on_it_only(self) -> None:
        assert not capabilities.capabilities(self.facts(), 7, is_local=False).fd_socket
        nowhere = replace(self.facts(), fd_socket=lambda: None)
        assert not capabilities.capabilities(nowhere, 7, is_local=True).fd_socket

    def test_everything_is_told(self) -> None:
        made = capabilities.capabilities(self.facts(), 7, is_local=True)
        assert set() == unset(made)
        assert {"max_source_bytes", "user_quota_bytes", "max_blocked_duration"} == unset(made.limits)
        assert made.fd_socket == "/data/fd.sock"
        assert set() == unset(made.retention)
        assert set() == unset(made.call_limits)
        assert set() == unset(made.checkpointing)
        assert set() == unset(made.isolation)
        assert 4.0 == made.checkpointing.segment_duration.ToTimedelta().total_seconds()
        assert made.call_limits.prepare_timeout.seconds > made.call_limits.call_timeout.seconds
        assert made.retention.trash.seconds == 30 * 24 * 3600
        assert made.retention.session_idle_timeout.seconds == 1800
        assert made.retention.removed_results.seconds == 3600
        assert [root.name for root in made.shared_roots] == ["of-7"]
        assert {"videoprocess", "protocol", "pyav"} == {version.name for version in made.versions}
        assert [extra.name for extra in made.extras if extra.present] == ["stabilise", "postgres", "s3"]

    def test_a_bound_of_blocked_time_is_told(self) -> None:
        facts = replace(self.facts(), limits=Limits(max_blocked_seconds=90.0))
        assert capabilities.capabilities(facts, 7).limits.max_blocked_duration.seconds == 90

    def test_what_is_absent_is_told_with_its_reason(self) -> None:
        build = replace(self.BUILD, video_encoders=("libx264",), filters=("unsharp",), extras={})
        made = capabilities.capabilities(self.facts(build), 7)
        told = {feature.name: feature.reason for feature in made.absent_features}
        assert {
            "libx265",
            "mjpeg",
            "motion_denoise",
            "cas",
            "deband",
            "lutyuv",
            "tone_map",
            "seccomp",
        } <= told.keys()
        assert {"video_stabilization", "SUPER_STAB", "tone_mapping"} <= told.keys()
        assert "pip install -e '.[stabilise]'" in told["video_stabilization"]
        assert all(reason.endswith((".", "]'.")) for reason in told.values())
        supported = {support.name: support.supported for support in made.settings}
        assert {name for name, there in supported.items() if not there} == told.keys() & supported.keys()
        assert {OperationMode(one.mode).name for one in made.operation_modes}.isdisjoint(told)
        assert not {encoder.name for encoder in made.encoders} & told.keys()

    def test_where_everything_is_there_only_modes_without_an_enhancement_are_absent(self) -> None:
        build = replace(self.BUILD, filters=FILTERS)
        facts = replace(self.facts(build), isolation=lambda: IsolationFacts(layers=("landlock 7", "seccomp")))
        made = capabilities.capabilities(facts, 7)
        told = {feature.name for feature in made.absent_features}
        assert told == {mode.name for mode in OperationMode} - {mode.name for mode in SUPPORTED_MODES}

    @pytest.mark.parametrize("mode", AuthMode)
    def test_each_way_to_say_who_one_is_has_its_name_in_the_contract(self, mode: AuthMode) -> None:
        made = capabilities.capabilities(replace(self.facts(), access=AccessFacts(modes=(mode,))), 7)
        assert [capabilities_pb2.AuthMode.Value(f"AUTH_MODE_{mode.name}")] == list(made.access.modes)
        assert len(AuthMode) + 1 == len(capabilities_pb2.AuthMode.values())

    def test_each_intent_is_there_once_with_what_it_can_be_encoded_as(self) -> None:
        made = capabilities.capabilities(self.facts(), 7)
        assert [int(support.intent) for support in made.intents] == list(StreamIntent)
        assert all(support.HasField("intent") and support.description for support in made.intents)
        told = {StreamIntent(one.intent): {*map(EncodeType, one.encode_types)} for one in made.intents}
        videos, pictures = (
            {EncodeType.NULL, EncodeType.H264, EncodeType.H265},
            {EncodeType.NULL, EncodeType.JPEG},
        )
        assert told == {
            StreamIntent.PREVIEW: videos,
            StreamIntent.VIDEO: videos,
            StreamIntent.STILL_CAPTURE: pictures,
            StreamIntent.POST_VIEW: pictures,
            StreamIntent.ANALYZE: {EncodeType.NULL},
            StreamIntent.CUSTOM: {EncodeType.NULL},
        }
        assert all(types <= ENCODE_TYPES_OF_INTENT[intent] for intent, types in told.items())

    def test_without_an_encoder_an_intent_cannot_be_made(self) -> None:
        made = capabilities.capabilities(self.facts(replace(self.BUILD, video_encoders=("mjpeg",))), 7)
        assert {StreamIntent(one.intent) for one in made.intents if not one.encode_types} == {
            StreamIntent.PREVIEW,
            StreamIntent.VIDEO,
        }

    def test_an_encoder_that_is_not_there_is_not_told(self) -> None:
        made = capabilities.capabilities(self.facts(replace(self.BUILD, video_encoders=("libx264",))), 7)
        assert [encoder.name for encoder in made.encoders] == ["libx264"]
        video = next(support for support in made.intents if support.intent == hdi_pb.STREAM_INTENT_VIDEO)
        assert list(video.encode_types) == [hdi_pb.ENCODE_TYPE_NULL, hdi_pb.ENCODE_TYPE_H264]

    def test_each_setting_is_there_once_with_its_tag(self) -> None:
        made = capabilities.capabilities(self.facts(), 7)
        told = {support.name.rpartition(".")[2]: support for support in made.settings}
        assert {field.name for field in fields(TypedSettings)} == set(told)
        for name, support in told.items():
            assert support.tag == 0 or TAGS[support.tag].field == name
            assert bool(support.tag) == (name in {known.field for known in TAGS.values()})

    @pytest.mark.parametrize("extras", [{"stabilise": "5.0.0"}, {}])
    @pytest.mark.parametrize("filters", [FILTERS, ("motion_denoise",)])
    def test_what_is_told_to_be_supported_is(self, extras: dict[str, str], filters: tuple[str, ...]) -> None:
        """CommitStreams takes an example of each supported setting, and refuses one of each other."""
        examples: dict[str, Any] = {
            "operation_mode": 2,
            "frame_rate_range": FrameRateRange(min_fps=30, max_fps=30),
            "zoom_ratio": 2.0,
            "zoom_crop_region": Rect(x=0, y=0, width=100, height=100),
            "video_stabilization": 1,
            "mirror": True,
            "orientation_degrees": 90,
            "denoise_strength": 0.5,
            "sharpen_strength": 0.5,
            "deband_strength": 0.5,
            "crf": 20.0,
            "bitrate_bps": 1000,
            "tone_mapping": 2,
            "watermark": Watermark(
                image=b"", scale_factor=1.0, rotation_degrees=90, x=0, y=0, width=0, height=0
            ),
            "damage": 2,
            "moov_first": True,
        }
        made = capabilities.capabilities(self.facts(replace(self.BUILD, extras=extras, filters=filters)), 7)
        for support in made.settings:
            name = support.name.rpartition(".")[2]
            asked = from_typed(TypedSettings(**{name: examples[name]}))
            if support.supported:
                require_extras(asked, extras)
                require_filters(asked, filters)
                continue
            with pytest.raises(SettingError) as refusal:  # noqa: PT012 - either refuses
                require_extras(asked, extras)
                require_filters(asked, filters)
            assert ("unsupported", support.name) == (refusal.value.kind, refusal.value.field)
        refused = {support.name for support in made.settings if not support.supported}
        assert refused == ({"video_stabilization"} if not extras else set()) | (
            {"tone_mapping"} if "tone_map" not in filters else set()
        )

    @pytest.mark.parametrize("extras", [{"stabilise": "5.0.0"}, {}])
    def test_the_modes_that_are_told_are_taken_and_no_others(self, extras: dict[str, str]) -> None:
        made = capabilities.capabilities(self.facts(replace(self.BUILD, extras=extras)), 7)
        told = {OperationMode(support.mode) for support in made.operation_modes}
        assert all(support.description for support in made.operation_modes)
        assert told == {mode for mode in OperationMode if self.is_taken(mode, extras)}
        assert (OperationMode.SUPER_STAB in told) == bool(extras)

    @staticmethod
    def is_taken(mode: OperationMode, extras: dict[str, str]) -> bool:
        try:
            require_extras(from_typed(TypedSettings(operation_mode=int(mode))), extras)
        except SettingError as refusal:
            return (refusal.kind, refusal.field) != ("unsupported", "operation_mode")
        return True

    def test_the_filters_that_are_told_are_those_of_the_modes_chains(self) -> None:
        told = {
            OperationMode(support.mode): set(support.filters)
            for support in capabilities.capabilities(
                self.facts(replace(self.BUILD, filters=FILTERS)), 7
            ).operation_modes
        }
        assert set(told) == set(SUPPORTED_MODES)
        noisy = NoiseEstimate(sigma_y=9.0, sigma_u=9.0, sigma_v=9.0, frame_count=3)
        for mode, names in told.items():
            asked = ModeSetting(
                operation_mode=mode, denoise_strength=1.0, sharpen_strength=1.0, deband_strength=1.0
            )
            used = {
                stage.partition("=")[0]
                for bit_depth in (8, 10)
                for stage in build_chain(asked, noisy, bit_depth).filters
            }
            assert used - {"format"} == names

    def test_the_note_of_a_missing_extra_tells_how_to_install_it(self) -> None:
        made = capabilities.capabilities(self.facts(replace(self.BUILD, extras={})), 7)
        (stabilise,) = [extra for extra in made.extras if extra.name == "stabilise"]
        assert not stabilise.present
        assert "pip install -e '.[stabilise]'" in stabilise.note
