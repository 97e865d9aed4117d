"""HDR becomes SDR where that is asked for: right in linear light, told as SDR everywhere, and nothing of HDR left in the file."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from cpu_independence import png_of
from joining import join_again, joined, losses_of, verified
from media_factory import Colours, make_clip
from media_tasks import VIDEO_STREAM, encode, plan_file, probe_file, rendered_frames
from videoprocess_server.media import colour_tables as tables
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.filters import FilterChain
from videoprocess_server.media.hdr import peak_luminance
from videoprocess_server.media.planes import read_plane, write_plane
from videoprocess_server.media.tone_mapping.stages import HdrLight, map_video
from videoprocess_server.media.tone_mapping.table import (
    KNEE,
    Curve,
    build_cube,
    into_gamut,
    map_to_sdr,
    roll_off,
)
from videoprocess_server.model.hdi import EncodeType, PixelFormat, StreamIntent
from videoprocess_server.model.media_info import Colour
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting, StreamInfo, Watermark

CLIPS = Path(__file__).parent.parent / "clips"
HDR10 = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=800,400"
TO_SDR = ModeSetting(to_sdr=True)
CLEAN = NoiseEstimate(sigma_y=0.0, sigma_u=0.0, sigma_v=0.0, frame_count=3)
PREVIEW = StreamInfo(stream_id=2, intent=StreamIntent.PREVIEW)
COVER = StreamInfo(stream_id=3, intent=StreamIntent.STILL_CAPTURE)
BT709_LIMITED = 4260097
HLG, PQ = Colours(primaries=9, transfer=18, matrix=9), Colours(primaries=9, transfer=16, matrix=9)
#: greys and colours as signals of BT.1886, dark enough that none of them is rolled off
SDR_COLOURS = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.05, 0.05, 0.05],
        [0.5, 0.5, 0.5],
        [0.8, 0.8, 0.8],
        [0.75, 0.57, 0.5],
        [0.7, 0.3, 0.35],
        [0.3, 0.55, 0.3],
        [0.25, 0.3, 0.6],
        [0.6, 0.6, 0.2],
    ]
)


def hdr_signals(sdr: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """Put SDR into HDR, its white at 203 cd/m2, by the equations of BT.1886, BT.2087 and BT.2100 as they are printed."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = (sdr**2.4 @ to_2020.T) * 203
    if transfer == 16:
        power = (light / 10_000) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    luminance = np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-9)[..., np.newaxis]
    scene = (luminance / 1000) ** ((1 - 1.2) / 1.2) * light / 1000
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


def coded(signals: NDArray[np.float64], colour: Colour, pixel_format: str) -> VideoFrame:
    """A frame with a row of patches of 16 pixels, by textbook arithmetic."""
    frame = VideoFrame(16 * len(signals), 32, pixel_format)
    bits = frame.format.components[0].bits
    if frame.format.is_rgb:
        planes = [signals[:, channel] * ((1 << bits) - 1) for channel in (1, 2, 0)]
    else:
        y = signals @ [0.2627, 0.6780, 0.0593]
        cb, cr = (signals[:, 2] - y) / 1.8814, (signals[:, 0] - y) / 1.4746
        scale, most, middle = 1 << (bits - 8), (1 << bits) - 1, 1 << (bits - 1)
        full = colour.range == 2
        planes = [y * most if full else (y * 219 + 16) * scale]
        planes += [part * (most if full else 224 * scale) + middle for part in (cb, cr)]
    for index, plane in enumerate(frame.planes):
        row = np.repeat(planes[index], plane.width // len(signals))
        write_plane(frame, index, np.rint(np.tile(row, (plane.height, 1))))
    frame.pts, frame.time_base = 0, Fraction(1, 30)
    return frame


def shown(
    signals: NDArray[np.float64], colour: Colour, pixel_format: str, result: str
) -> NDArray[np.float64]:
    """What a player of BT.709 makes of the patches' middles after the stages of a video."""
    frame = coded(signals, colour, pixel_format)
    stages = map_video(
        HdrLight(colour=colour, peak=1000), pixel_format, (frame.width, frame.height), result, None
    )
    chain = FilterChain(stages, Fraction(1, 30))
    (made,) = [*chain.push(frame), *chain.push(None)]
    assert (made.pts, made.time_base, made.color_primaries, made.color_trc) == (0, Fraction(1, 30), 1, 1)
    scale = 1 << (made.format.components[0].bits - 8)
    parts = []
    for index, plane in enumerate(made.planes):
        width = plane.width // len(signals)
        middle = read_plane(made, index)[4:-4].reshape(plane.height - 8, len(signals), width)
        parts.append(middle[:, :, width // 4 : width - width // 4].mean(axis=(0, 2)) / scale)
    y, cb, cr = (parts[0] - 16) / 219, (parts[1] - 128) / 224, (parts[2] - 128) / 224
    red, blue = y + 1.5748 * cr, y + 1.8556 * cb
    return np.stack([red, (y - 0.2126 * red - 0.0722 * blue) / 0.7152, blue], axis=-1)


def oklab_hue(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hue in degrees by Ottosson's Oklab."""
    lms = np.cbrt(
        light
        @ np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]).T
    )
    a, b = lms @ [1.97800, -2.42859, 0.45059], lms @ [0.02590, 0.78277, -0.80868]
    return np.degrees(np.arctan2(b, a))


# -- how it looks


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize(
    ("pixel_format", "full"),
    [
        ("yuv420p10le", False),
        ("yuv420p10le", True),
        ("yuv422p10le", False),
        ("yuv444p10le", True),
        ("yuv420p12le", False),
        ("yuv444p12le", True),
        ("gbrp10le", True),
    ],
)
def test_sdr_in_hdr_comes_out_as_it_went_in(transfer: int, pixel_format: str, *, full: bool) -> None:
    """Colours of SDR whose white is the reference white: what was coded and rounded costs less than a code of 8 bits."""
    colour = Colour(primaries=9, transfer=transfer, matrix=9, range=2 if full else 1)
    for result, most in (("yuv444p10le", 0.006), ("yuv420p", 0.009)):
        made = shown(hdr_signals(SDR_COLOURS, transfer), colour, pixel_format, result)
        assert np.abs(made - SDR_COLOURS)[1:].max() < most
        assert np.abs(made[0]).max() < 0.004  # black


def test_pq_of_eight_bits_is_mapped_as_well_as_it_can_be() -> None:
    colour = Colour(primaries=9, transfer=16, matrix=9, range=1)
    made = shown(hdr_signals(SDR_COLOURS, 16), colour, "yuv420p", "yuv420p")
    assert np.abs(made - SDR_COLOURS)[1:].max() < 0.05


@pytest.mark.parametrize("transfer", [16, 18])
def test_highlights_grow_up_to_the_peak_and_keep_their_hue(transfer: int) -> None:
    """Greys and tints up to 1000 cd/m2 through the whole chain: each step is brighter, the reference white near SDR's."""
    steps = np.geomspace(0.3, 1000 / 203, 40)[:, np.newaxis] ** (1 / 2.4)
    colour = Colour(primaries=9, transfer=transfer, matrix=9, range=1)
    grey = shown(hdr_signals(steps * np.ones(3), transfer), colour, "yuv444p10le", "yuv444p10le")
    assert (np.diff(grey.mean(axis=-1)) >= 0).all()
    assert len(np.unique(grey.mean(axis=-1))) > 34  # of 10 bits: the last steps are smaller than a code
    assert grey[-1] == pytest.approx([1, 1, 1], abs=0.004)
    assert np.ptp(grey, axis=-1).max() < 0.004
    white = shown(hdr_signals(np.ones((1, 3)), transfer), colour, "yuv444p10le", "yuv444p10le")
    assert 0.9 < white.min() < white.max() < 0.95
    # HLG has no code for blue at the peak
    steps = steps[:-3]
    for tint in ([1.0, 0.5, 0.25], [0.3, 0.6, 1.0], [0.4, 1.0, 0.45]):
        part = np.array(tint) ** (1 / 2.4)
        made = np.maximum(shown(hdr_signals(steps * part, transfer), colour, "yuv444p10le", "yuv444p10le"), 0)
        assert np.abs(oklab_hue(made**2.4) - oklab_hue(np.array([tint]))).max() < 2.5


def test_the_curve_has_no_corner_and_reaches_white_at_any_peak() -> None:
    for most in (1.0, 1.3, 4.93, 49.0):
        light = np.linspace(0, most, 4001)
        made = roll_off(np.repeat(light[:, np.newaxis], 3, axis=1), most)[:, 0]
        slope = np.diff(made) / np.diff(light)
        assert (slope > 0).all()
        assert np.abs(np.diff(slope)).max() < 0.1
        assert slope.max() < 1 + 1e-9
        assert made[-1] == pytest.approx(1)
        assert made[light <= KNEE] == pytest.approx(light[light <= KNEE])
        assert roll_off(np.array([[most * 9, most * 4.5, 0]]), most)[0] == pytest.approx([1, 0.5, 0])


def test_colours_outside_of_bt709_keep_luminance_and_nearly_their_hue() -> None:
    """Compared with cutting off what is negative, which is what a conversion of primaries alone does."""
    shares = np.array([float(share) for share in tables.luma_shares(1)])
    wide = np.array(
        [[1, 0.15, 0.15], [0.15, 1, 0.15], [0.15, 0.15, 1], [0.15, 1, 1], [1, 0.15, 1], [1, 1, 0.15]]
    )
    light = 0.4 * wide @ (np.array(tables.rgb_matrix(9, 1)) / tables.ONE).T
    made = into_gamut(light)
    assert made.min() >= 0
    assert made @ shares == pytest.approx(light @ shares)
    apart, cut = (
        np.abs((oklab_hue(colours) - oklab_hue(light) + 180) % 360 - 180)
        for colours in (made, np.maximum(light, 0))
    )
    assert apart.mean() < 0.5 < cut.mean()
    inside = np.array([[0.5, 0.1, 0.1], [0.2, 0.2, 0.2], [0.0, 0.0, 0.0], [0.1, 0.3, 0.4]])
    assert into_gamut(inside) == pytest.approx(inside, abs=1e-9)


@pytest.mark.parametrize("transfer", [16, 18])
def test_the_table_is_as_good_as_its_formula(transfer: int) -> None:
    """Random colours through the table that frames go through, against the formula in doubles."""
    signals = np.random.default_rng(2).uniform(0, 0.9, (4000, 3))
    frame = VideoFrame(len(signals), 1, "gbrp12le")
    for plane, channel in enumerate((1, 2, 0)):
        write_plane(frame, plane, np.rint(signals[:, channel] * 4080))
    frame.pts = 0
    stage = f"tone_map=transfer={transfer}:primaries=9:peak=1000:curve=bt1886:white=4080"
    chain = FilterChain((stage, "format=pix_fmts=gbrp12le"), Fraction(1, 30))
    (made,) = [*chain.push(frame), *chain.push(None)]
    planes = [read_plane(made, index)[0] / 4080 for index in (2, 0, 1)]
    exact = map_to_sdr(np.rint(signals * 4080) / 4080, transfer, 9, 1000, Curve.BT1886)
    error = np.abs(np.stack(planes, axis=-1) - exact)
    assert np.sqrt(np.mean(error**2)) < 0.004
    assert np.quantile(error, 0.99) < 0.02


def test_the_tables_are_those_of_every_machine() -> None:
    """They are rounded from doubles: a machine whose powers differ by enough to change one is found here."""
    made = b"".join(
        build_cube(transfer, 9, 1000, curve, 4080).tobytes()
        for transfer in (16, 18)
        for curve in (Curve.BT1886, Curve.SRGB)
    )
    assert (
        hashlib.sha256(made).hexdigest() == "94cf6812273ffcae6eac9626c69e4ee0028922b62819fed34088d70a033d7631"
    )


def test_the_peak_is_that_of_the_content_or_of_its_display() -> None:
    assert peak_luminance("hdr10=1:" + HDR10) == 800
    assert peak_luminance("hdr10=1:" + HDR10.replace("max-cll=800,", "max-cll=0,")) == 1000
    assert peak_luminance("hdr10=1:max-cll=4000,20") == 4000
    assert peak_luminance("") is None
    exact = [
        map_to_sdr(np.array([[0.65] * 3]), 16, 9, peak, Curve.BT1886)[0, 0] for peak in (600, 1000, 4000)
    ]
    assert exact == sorted(exact, reverse=True)


# -- what is planned


def hdr_clip(folder: Path, colours: Colours = HLG, suffix: str = ".mp4", **other: object) -> Path:
    asked = {"codec": "libx265", "pix_fmt": "yuv420p10le", "frames": 6, "width": 128, "height": 96} | other
    return make_clip(folder / f"clip{suffix}", colours=colours, **asked).path  # type: ignore[arg-type]


def test_hdr_becomes_sdr_of_the_same_codec_with_eight_bits(tmp_path: Path) -> None:
    path = hdr_clip(tmp_path)
    video, proxy = plan_file(path, setting=TO_SDR, streams=[VIDEO_STREAM, PREVIEW]).renditions
    assert (video.encoder.codec, video.encoder.pixel_format) == ("hevc", "yuv420p")
    assert (proxy.encoder.codec, proxy.encoder.pixel_format) == ("h264", "yuv420p")
    for rendition in (video, proxy):
        assert rendition.encoder.colour == Colour(primaries=1, transfer=1, matrix=1, range=1)
        assert "SDR" in rendition.note
        assert "HLG" in rendition.note
        assert rendition.carried_length_size == 0
    h264 = replace(VIDEO_STREAM, encode_type=EncodeType.H264, dataspace=BT709_LIMITED)
    deep = replace(VIDEO_STREAM, format=int(PixelFormat.YCBCR_P010))
    formats = [
        plan_file(path, setting=TO_SDR, streams=[stream]).renditions[0].encoder.pixel_format
        for stream in (h264, deep)
    ]
    assert formats == ["yuv420p", "yuv420p10le"]


def test_chroma_is_kept_at_its_resolution(tmp_path: Path) -> None:
    for pix_fmt, made in (("yuv422p10le", "yuv422p"), ("yuv444p10le", "yuv444p"), ("yuv420p12le", "yuv420p")):
        plan = plan_file(hdr_clip(tmp_path, pix_fmt=pix_fmt, frames=2), setting=TO_SDR)
        assert plan.renditions[0].encoder.pixel_format == made
        assert plan.not_kept == ()


def test_what_is_not_asked_for_changes_nothing(tmp_path: Path) -> None:
    """SDR has the same plan with and without; HDR stays HDR without; stills of HDR are SDR either way."""
    sdr = make_clip(tmp_path / "sdr.mp4", frames=6, width=128, height=96).path
    streams = [VIDEO_STREAM, PREVIEW, COVER]
    assert plan_file(sdr, setting=TO_SDR, streams=streams) == plan_file(sdr, streams=streams)
    hdr = hdr_clip(tmp_path)
    plain, mapped = plan_file(hdr, streams=streams), plan_file(hdr, streams=streams, setting=TO_SDR)
    assert plain.renditions[0].encoder.colour.transfer == 18
    assert not any(stage.startswith("tone_map") for stage in plain.renditions[0].geometry)
    assert plain.renditions[2] == mapped.renditions[2]
    assert "SDR" in plain.renditions[2].note


def test_what_cannot_be_mapped_is_refused(tmp_path: Path) -> None:
    path = hdr_clip(tmp_path)
    media = probe_file(path)
    ictcp = replace(media, video=replace(media.video, colour=replace(media.video.colour, matrix=14)))
    with pytest.raises(MediaFault, match="matrix 14") as caught:
        plan_file(path, setting=TO_SDR, media=ictcp)
    assert caught.value.reason == "STREAM_NOT_SUPPORTED"
    still_hdr = replace(VIDEO_STREAM, dataspace=4457732)  # BT.2020 HLG
    with pytest.raises(MediaFault, match="dataspace"):
        plan_file(path, setting=TO_SDR, streams=[still_hdr])


# -- what is made


def facts(path: Path) -> str:
    """What the independent ffmpeg program says of a file's picture and of its first frame."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path), "-an", "-vf", "showinfo"]
    command += ["-frames:v", "1", "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr


def make_hdr10(path: Path) -> Path:
    """Grey of 203 cd/m2 in PQ, with HDR10's static metadata in the stream."""
    with av.open(str(path), "w") as out:
        options = {"x265-params": f"log-level=error:pools=none:frame-threads=1:hdr10=1:{HDR10}"}
        stream = out.add_stream("libx265", rate=30, options=options)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p10le"
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        for pts in range(8):
            frame = VideoFrame(128, 96, "yuv420p10le")
            for index, value in enumerate((round(0.5806 * 876 + 64), 512, 512)):
                plane = frame.planes[index]
                write_plane(frame, index, np.full((plane.height, plane.width), value))
            frame.pts = pts
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("encode_type", [EncodeType.NULL, EncodeType.H264])
def test_a_result_is_sdr_wherever_a_player_looks(
    tmp_path: Path, suffix: str, encode_type: EncodeType
) -> None:
    """Parameter sets, boxes and elements, messages: none tells of HDR, and none of it is called lost."""
    source = make_hdr10(tmp_path / f"source{suffix}")
    assert "mastering" in facts(source).lower()
    streams = [replace(VIDEO_STREAM, encode_type=encode_type)]
    made = joined(source, tmp_path, setting=TO_SDR, streams=streams, noise=CLEAN)
    verified(made)
    said = facts(made.path)
    assert "bt709" in said
    for trace in ("bt2020", "smpte2084", "mastering", "content light", "dovi"):
        assert trace not in said.lower()
    if suffix == ".mp4":
        data = made.path.read_bytes()
        for box in (b"mdcv", b"clli"):
            assert box not in data
        if b"colr" in source.read_bytes():
            assert b"colrnclx" + bytes((0, 1, 0, 1, 0, 1, 0)) in data
    assert losses_of(made) | {(lost.what.name, 0, 0) for lost in made.plan.not_kept} == set()
    with av.open(str(made.path)) as container:
        frame = next(container.decode(video=0))
    luma = read_plane(frame, 0).mean()
    assert (luma - 16) / 219 == pytest.approx(0.91, abs=0.02)


def test_a_result_with_metadata_of_hdr_is_refused(tmp_path: Path) -> None:
    """The verification holds it, and not only the encoder's settings."""
    source = make_hdr10(tmp_path / "source.mp4")
    made = joined(source, tmp_path, setting=TO_SDR, noise=CLEAN)
    rendition = made.plan.renditions[0]
    options = rendition.encoder.options
    told = {**options, "x265-params": f"{options['x265-params']}:hdr10=1:{HDR10}"}
    false = replace(
        made.plan, renditions=(replace(rendition, encoder=replace(rendition.encoder, options=told)),)
    )
    segments = encode(source, false, false.segments, tmp_path / "false")
    paths = tuple(done.path for done in segments)
    result = join_again(source, made.media, false, paths, tmp_path / "false.mp4")
    with pytest.raises(MediaFault, match="metadata of HDR"):
        verified(replace(made, plan=false, path=tmp_path / "false.mp4", result=result))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iphone12pm_hlg_main10_mebx.mp4", "android14_hlg_main10_1080p.mp4"])
def test_clips_of_phones_become_sdr(tmp_path: Path, name: str) -> None:
    """Dolby Vision and ambient light among them; the other tracks stay."""
    made = joined(CLIPS / name, tmp_path, setting=TO_SDR, noise=CLEAN)
    verified(made)
    said = facts(made.path)
    for trace in ("bt2020", "arib", "dovi", "ambient"):
        assert trace not in said.lower()
    data = made.path.read_bytes()
    assert not any(box in data for box in (b"dvcC", b"dvvC", b"amve"))
    assert losses_of(made) == set()
    assert made.plan.not_kept == ()


def test_pq_of_eight_bits_in_h264_becomes_sdr(tmp_path: Path) -> None:
    path = hdr_clip(tmp_path, PQ, codec="libx264", pix_fmt="yuv420p")
    made = joined(path, tmp_path, setting=TO_SDR, noise=CLEAN)
    verified(made)
    assert "bt709" in facts(made.path)


@pytest.mark.slow
def test_bytes_do_not_depend_on_cuts(tmp_path: Path) -> None:
    path = hdr_clip(tmp_path, PQ, frames=24, gop=6, codec="libx264", pix_fmt="yuv420p")
    plan = plan_file(path, setting=TO_SDR, segment_seconds=Fraction(1, 5), noise=CLEAN)
    assert len(plan.segments) > 1
    together = encode(path, plan, plan.segments, tmp_path / "together")
    alone = [encode(path, plan, [segment], tmp_path / "alone")[0] for segment in plan.segments]
    assert [done.sha256 for done in together] == [done.sha256 for done in alone]


def test_a_watermark_keeps_its_colours(tmp_path: Path) -> None:
    """It is burnt into HDR, its white at the reference white; what is dark enough comes out as it went in."""
    path = hdr_clip(tmp_path, frames=2)
    colours = {"white": (255, 255, 255, 255), "brick": (150, 60, 50, 255)}
    for name, rgba in colours.items():
        watermark = Watermark(
            image=png_of(np.tile(np.array(rgba), (48, 64, 1))),
            scale_factor=1.0,
            rotation_degrees=0,
            x=32,
            y=32,
            width=0,
            height=0,
        )
        plan = plan_file(path, setting=ModeSetting(to_sdr=True, watermark=watermark), noise=CLEAN)
        frame = rendered_frames(path, plan, plan.segments)[0]
        y, cb, cr = (
            read_plane(frame, index)[48 // d : 64 // d, 48 // d : 80 // d].mean() - black
            for index, d, black in ((0, 1, 16), (1, 2, 128), (2, 2, 128))
        )
        red, blue = y / 219 + 1.5748 * cr / 224, y / 219 + 1.8556 * cb / 224
        made = np.array([red, (y / 219 - 0.2126 * red - 0.0722 * blue) / 0.7152, blue])
        light = np.array(rgba[:3]) / 255
        light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
        expected = [0.912] * 3 if name == "white" else light ** (1 / 2.4)
        assert made == pytest.approx(np.array(expected), abs=0.012)
