from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from media_factory import make_clip
from soaking import SOAKING
from videoprocess_server.enhance.chains import SUPPORTED_MODES, build_chain
from videoprocess_server.machine.capacity import available_cores, memory_budget_bytes
from videoprocess_server.machine.local import LocalMachine, default_disk_reserve_bytes
from videoprocess_server.machine.sensors import pressure_percent, temperature_celsius
from videoprocess_server.model.hdi import OperationMode
from videoprocess_server.model.plan import NoiseEstimate
from videoprocess_server.model.settings_snapshot import ModeSetting
from videoprocess_server.model.worker_costs import estimate_worker_bytes, most_neighbours, worker_cores

GIBIBYTE = 1 << 30
MEMTOTAL_BYTES = 16 * GIBIBYTE
NO_LIMIT_V1 = "9223372036854771712"


def _root(tmp_path: Path, files: dict[str, str]) -> Path:
    """A file system with these files of the kernel, and 16 GiB of memory."""
    defaults = {"proc/meminfo": f"MemTotal:  {MEMTOTAL_BYTES // 1024} kB\nMemFree: 1 kB\n"}
    for name, text in (defaults | files).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return tmp_path


CGROUP = "sys/fs/cgroup"

CORES = {
    "no cgroups": ({}, 8),
    "v2 without a quota": ({"proc/self/cgroup": "0::/a", f"{CGROUP}/a/cpu.max": "max 100000"}, 8),
    "v2": ({"proc/self/cgroup": "0::/a", f"{CGROUP}/a/cpu.max": "350000 100000"}, 3),
    "v2, the group above has less": (
        {
            "proc/self/cgroup": "0::/a/b",
            f"{CGROUP}/a/b/cpu.max": "400000 100000",
            f"{CGROUP}/a/cpu.max": "200000 100000",
        },
        2,
    ),
    "v2 under a host's path": (
        {"proc/self/cgroup": "0::/host/path", f"{CGROUP}/cpu.max": "200000 100000"},
        2,
    ),
    "v2, less than a core": ({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "10000 100000"}, 1),
    "v2, more than there are": ({"proc/self/cgroup": "0::/", f"{CGROUP}/cpu.max": "9900000 100000"}, 8),
    "v1": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/a\n3:memory:/a",
            f"{CGROUP}/cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
            f"{CGROUP}/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
        },
        2,
    ),
    "v1, mounted by one name, under a host's path": (
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/host/path",
            f"{CGROUP}/cpu/cpu.cfs_quota_us": "500000",
            f"{CGROUP}/cpu/cpu.cfs_period_us": "100000",
        },
        5,
    ),
    "v1 without a quota": (
        {
            "proc/self/cgroup": "4:cpu:/",
            f"{CGROUP}/cpu/cpu.cfs_quota_us": "-1",
            f"{CGROUP}/cpu/cpu.cfs_period_us": "100000",
        },
        8,
    ),
    "another controller's folder": (
        {"proc/self/cgroup": "4:cpuset:/", f"{CGROUP}/cpuset/cpu.cfs_quota_us": "100000"},
        8,
    ),
    "nonsense": ({"proc/self/cgroup": "what\n::\n0::/", f"{CGROUP}/cpu.max": "1 0"}, 8),
}


@pytest.mark.parametrize(("files", "cores"), CORES.values(), ids=CORES.keys())
def test_cores_are_those_that_affinity_and_quota_leave(
    tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    assert available_cores(_root(tmp_path, files), affinity=8) == cores


MEMORY = {
    "no cgroups": ({}, MEMTOTAL_BYTES),
    "v2 without a limit": ({"proc/self/cgroup": "0::/a", f"{CGROUP}/a/memory.max": "max"}, MEMTOTAL_BYTES),
    "v2": ({"proc/self/cgroup": "0::/a", f"{CGROUP}/a/memory.max": str(2 * GIBIBYTE)}, 2 * GIBIBYTE),
    "v2, throttled earlier": (
        {
            "proc/self/cgroup": "0::/a",
            f"{CGROUP}/a/memory.max": str(4 * GIBIBYTE),
            f"{CGROUP}/a/memory.high": str(3 * GIBIBYTE),
        },
        3 * GIBIBYTE,
    ),
    "v2, the group above has less": (
        {
            "proc/self/cgroup": "0::/a/b",
            f"{CGROUP}/a/b/memory.max": "max",
            f"{CGROUP}/a/memory.max": str(GIBIBYTE),
        },
        GIBIBYTE,
    ),
    "v1": (
        {"proc/self/cgroup": "3:memory:/a", f"{CGROUP}/memory/a/memory.limit_in_bytes": str(GIBIBYTE)},
        GIBIBYTE,
    ),
    "v1 without a limit": (
        {"proc/self/cgroup": "3:memory:/a", f"{CGROUP}/memory/a/memory.limit_in_bytes": NO_LIMIT_V1},
        MEMTOTAL_BYTES,
    ),
    "hybrid": (
        {
            "proc/self/cgroup": "4:memory:/\n0::/a",
            f"{CGROUP}/memory/memory.limit_in_bytes": NO_LIMIT_V1,
            f"{CGROUP}/unified/a/memory.max": str(GIBIBYTE),
        },
        GIBIBYTE,
    ),
}


@pytest.mark.parametrize(("files", "limit"), MEMORY.values(), ids=MEMORY.keys())
def test_the_memory_budget_is_a_share_of_the_least_limit(
    tmp_path: Path, files: dict[str, str], limit: int
) -> None:
    assert memory_budget_bytes(_root(tmp_path, files)) == int(0.8 * limit)


def test_a_machine_that_does_not_tell_its_memory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="MemTotal"):
        memory_budget_bytes(_root(tmp_path, {"proc/meminfo": "MemFree: 1 kB"}))


def test_this_machine_tells_what_psutil_tells() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))
    assert 0 < memory_budget_bytes() <= 0.8 * psutil.virtual_memory().total


def test_affinity_is_asked_of_the_kernel() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


# pressure and temperature


def test_pressure_is_the_ten_second_average_of_some(tmp_path: Path) -> None:
    some = "some avg10=8.03 avg60=1.80 avg300=1.06 total=3255994887"
    full = "full avg10=1.00 avg60=0.00 avg300=0.00 total=0"
    root = _root(tmp_path, {"proc/pressure/cpu": f"{some}\n{full}", "proc/pressure/memory": full})
    assert pressure_percent("cpu", root) == 8.03
    assert pressure_percent("memory", root) is None
    assert pressure_percent("cpu", tmp_path / "elsewhere") is None


@dataclass
class Sensor:
    current: float | None


@pytest.mark.parametrize(
    ("readings", "hottest"),
    [
        ({}, None),
        ({"coretemp": [40.0, 71.5], "nvme": [50.0]}, 71.5),
        ({"acpitz": [None], "k10temp": [60.0]}, 60.0),
        ({"broken": [-273.2, 0.0, 255.0, math.nan]}, None),
    ],
)
def test_the_temperature_is_the_hottest_plausible_sensors(
    readings: dict[str, list[float | None]], hottest: float | None
) -> None:
    sensors = {chip: [Sensor(value) for value in values] for chip, values in readings.items()}
    assert temperature_celsius(lambda: sensors) == hottest


def test_the_local_machine_can_be_asked(tmp_path: Path) -> None:
    machine = LocalMachine(tmp_path)
    assert 0 <= machine.disk_free_bytes() <= machine.disk_total_bytes()
    assert machine.disk_total_bytes() == psutil.disk_usage(str(tmp_path)).total
    for value in (
        machine.temperature_celsius(),
        machine.cpu_pressure_percent(),
        machine.memory_pressure_percent(),
    ):
        assert value is None or 0 <= value <= 150
    assert machine.local_time().tzinfo is not None


def test_the_default_reserve_is_a_gibibyte_or_a_share_of_a_small_disk() -> None:
    assert default_disk_reserve_bytes(1000 * GIBIBYTE) == GIBIBYTE
    assert default_disk_reserve_bytes(10 * GIBIBYTE) == GIBIBYTE // 2


# what a worker needs

#: encodes a clip in a process of its own, and tells its plan's depth and the most memory it had
_ENCODE = """
import json, sys
from pathlib import Path
from media_tasks import encode, plan_file
from videoprocess_server.model.plan import NoiseEstimate
clip, folder = map(Path, sys.argv[1:3])
sigma = float(sys.argv[3])
plan = plan_file(clip, noise=NoiseEstimate(sigma_y=sigma, sigma_u=sigma, sigma_v=sigma, frame_count=3))
encode(clip, plan, plan.segments, folder)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
encoder = plan.renditions[0].encoder
print(json.dumps([encoder.encoder, encoder.pixel_format, plan.filters.pre_roll_frames, int(peak.split()[1]) * 1024]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "pixel_format", "bit_depth"),
    [
        ("libx264", "yuv420p", 8),
        ("libx265", "yuv420p10le", 10),
        *([("libx265", "yuv420p", 8)] if SOAKING else []),
    ],
)
@pytest.mark.parametrize("neighbours", [0, 4])
def test_an_encoding_worker_stays_within_its_estimate(
    tmp_path: Path, codec: str, pixel_format: str, bit_depth: int, neighbours: int
) -> None:
    clip = make_clip(
        tmp_path / "clip.mp4",
        frames=60,
        width=640,
        height=360,
        codec=codec,
        pix_fmt=pixel_format,
        noise_sigma=3.0,
    )
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            _ENCODE,
            str(clip.path),
            str(tmp_path / "segments"),
            str(5 * bool(neighbours)),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    encoder, made, radius, peak_bytes = json.loads(told.stdout.splitlines()[-1])
    assert (encoder, made, radius) == (codec, pixel_format, neighbours)
    estimate = estimate_worker_bytes(640 * 360, bit_depth, neighbours=neighbours)
    assert estimate / 2 < peak_bytes <= estimate


def test_estimates_grow_with_the_picture_and_the_depth() -> None:
    estimates = [
        estimate_worker_bytes(width * height, depth)
        for width, height in ((640, 360), (1920, 1080), (3840, 2160), (7680, 4320))
        for depth in (8, 10)
    ]
    assert estimates[::2] == sorted(estimates[::2])
    assert all(deep > plain for plain, deep in zip(estimates[::2], estimates[1::2], strict=True))
    # as measured, MiB; see the module
    assert estimates[4] > 1716 << 20
    assert estimates[5] > 2723 << 20


def test_each_further_stream_and_a_watermark_need_more() -> None:
    pixels = 1280 * 720
    alone = estimate_worker_bytes(pixels, 8)
    assert (
        estimate_worker_bytes(pixels, 8, further_pixels=(pixels,)) > 458 << 20
    )  # as measured, H.264 and H.265
    assert estimate_worker_bytes(pixels, 8, further_pixels=(640 * 360,)) > alone + (55 << 20)
    assert estimate_worker_bytes(3840 * 2160, 8, has_watermark=True) > estimate_worker_bytes(
        3840 * 2160, 8
    ) + (150 << 20)


def test_made_up_frames_need_more() -> None:
    pixels = 1920 * 1080
    assert estimate_worker_bytes(pixels, 10, interpolates=True) > estimate_worker_bytes(pixels, 10) + (
        131 << 20
    )


def test_denoising_needs_more() -> None:
    """As measured, MiB: what was taken beside H.265 alone."""
    for pixels, depth, measured in (
        (1280 * 720, 8, 286 + 115),
        (1920 * 1080, 8, 515 + 210),
        (3840 * 2160, 8, 1716 + 801),
        (1920 * 1080, 10, 796 + 238),
    ):
        estimate = estimate_worker_bytes(pixels, depth, neighbours=4) / (1 << 20)
        assert 1.07 < estimate / measured < 1.25
    # of 4 GiB workers get 0.8
    assert estimate_worker_bytes(3840 * 2160, 8, neighbours=4) < 0.8 * 4 * GIBIBYTE


def test_stabilising_needs_more() -> None:
    pixels = 1280 * 720
    stabilised = estimate_worker_bytes(pixels, 8, stabilises=True)
    assert stabilised > estimate_worker_bytes(pixels, 8) + (38 << 20)  # as measured


@pytest.mark.parametrize("mode", sorted(SUPPORTED_MODES))
@pytest.mark.parametrize("strength", [None, 0.0, 0.5])
def test_as_many_neighbours_are_counted_as_noise_may_need(
    mode: OperationMode, strength: float | None
) -> None:
    noisy = NoiseEstimate(sigma_y=9.0, sigma_u=9.0, sigma_v=9.0, frame_count=3)
    asked = ModeSetting(operation_mode=mode, denoise_strength=strength)
    assert most_neighbours(asked) == build_chain(asked, noisy, 8).pre_roll_frames


def test_a_worker_keeps_the_encoders_threads_busy_and_one_core_at_least() -> None:
    assert [worker_cores(threads) for threads in (0, 1, 4)] == [1, 1, 4]
