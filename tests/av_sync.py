"""Measures when flashes are shown and beeps heard, with an ffmpeg program that is not PyAV's: exact to tick and sample."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from media_factory import AUDIO_RATE, BEEP_SAMPLES

#: mean luma from which on a picture is a flash; the texture stays far below
_WHITE = 200
#: of a beep's loudness, where nothing but a beep is heard
_LOUD = 0.2
#: samples around the first loud one in which the beep's begin is looked for
_AROUND = 1200
_PICTURE = re.compile(r"pts:(-?\d+) .*\n.*YAVG=([\d.]+)")


@dataclass(frozen=True)
class Sync:
    """When a player shows flashes, and when it sounds beeps, in seconds."""

    flashes: tuple[Fraction, ...]
    beeps: tuple[Fraction, ...]
    #: of all pictures
    times: tuple[Fraction, ...]

    @property
    def offsets(self) -> tuple[Fraction, ...]:
        """Seconds from each flash to the nearest beep."""
        return tuple(min((beep - flash for beep in self.beeps), key=abs) for flash in self.flashes)

    @property
    def steps(self) -> set[Fraction]:
        """Seconds from picture to picture."""
        return {b - a for a, b in pairwise(self.times)}


def measure(path: Path) -> Sync:
    """Decode a clip of flashes and beeps; a beep begins where it fits best what was played."""
    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base or Fraction(1)
    with tempfile.TemporaryDirectory() as folder:
        # Not by the log: lines of ffmpeg's threads get into each other there.
        told = Path(folder) / "told"
        looked = f"format=gray,signalstats,metadata=print:key=lavfi.signalstats.YAVG:file={told}"
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-nostdin",
            "-v",
            "error",
            "-i",
            str(path),
            "-map",
            "0:v:0",
        ]
        command += ["-vf", looked, "-fps_mode", "passthrough", "-enc_time_base", "demux"]
        command += ["-f", "null", "-", "-map", "0:a:0", "-af", f"aresample={AUDIO_RATE}:async=1:first_pts=0"]
        command += ["-ac", "1", "-f", "f32le", "pipe:1"]
        run = subprocess.run(command, capture_output=True, check=True)
        pictures = [(int(pts) * tick, float(mean)) for pts, mean in _PICTURE.findall(told.read_text())]
    return Sync(
        flashes=tuple(at for at, mean in pictures if mean > _WHITE),
        beeps=tuple(Fraction(k, AUDIO_RATE) for k in _begins(np.frombuffer(run.stdout, np.float32))),
        times=tuple(at for at, _ in pictures),
    )


def _begins(samples: NDArray[np.float32]) -> list[int]:
    """Return the first sample of each beep: where its shape correlates most."""
    shape = np.cos(2 * np.pi * 1000 * np.arange(BEEP_SAMPLES) / AUDIO_RATE)
    loud = np.flatnonzero(np.abs(samples) > _LOUD)
    firsts = [
        int(k) for k, before in zip(loud, [-AUDIO_RATE, *loud[:-1]], strict=True) if k - before > BEEP_SAMPLES
    ]
    begins = []
    for first in firsts:
        start = max(0, first - _AROUND)
        fits = np.correlate(samples[start : first + _AROUND + BEEP_SAMPLES], shape)
        begins.append(start + int(np.argmax(fits)))
    return begins
