"""Denoises pictures by their neighbours in time and by what is regular in themselves.

For each picture, those before and after it are shifted block by block to where they match (`motion_search`). Then, in
overlapping blocks of the Walsh-Hadamard transform, each coefficient is averaged with those of the neighbours, the less the
more they differ by than noise explains (after S. Hasinoff et al., "Burst photography for high dynamic range and low-light
imaging on mobile cameras", 2016, section 5), and what is left is shrunk by what noise it must still hold (after K. Dabov,
A. Foi, K. Egiazarian, "Video denoising by sparse 3D transform-domain collaborative filtering", 2007; the rule is the
non-negative garrote of L. Breiman, 1995). Sums of blocks are transformed and shrunk once more with those around, against
noise of coarser grain. All of it on a scale on which noise is equally strong (`noise_scale`).

Each operation on floating-point numbers is a single sum, difference, product, quotient or comparison of two, which IEEE 754
rounds in one way only: the pixels are the same on every processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from videoprocess_server.media.copies import SampleCopier
from videoprocess_server.media.denoise import hadamard
from videoprocess_server.media.denoise.motion_search import (
    BLOCK,
    LONGEST,
    Pyramid,
    Vectors,
    build_pyramid,
    find_motion,
)
from videoprocess_server.media.denoise.noise_scale import UNIT, NoiseScale
from videoprocess_server.media.faults import MediaFault
from videoprocess_server.media.planes import read_plane, write_plane

Plane = NDArray[np.float32]

#: standard deviation of noise in a coefficient: sqrt(16) times that in a sample
_SIGMA: Final = 4.0 * UNIT
#: a neighbour's coefficient counts fully up to a difference of 2 deviations and not at all from 4.16 on
_WEIGHT_BASE: Final = 1.3
_WEIGHT_SLOPE: Final = 0.075
#: a neighbour's whole block counts fully up to twice the energy that noise explains, and not at all from four times on
_TRUST_BASE: Final = 2.0
_TRUST_SLOPE: Final = 0.5
#: squared deviations below which a coefficient is taken for noise
_SHRINK: Final = 5.0
#: where blocks begin: at every second sample from the first and, half-way between, from the second in both directions
_OFFSETS: Final = (0, 1)
#: samples around a picture that are transformed too, so that blocks of both sizes are everywhere whole
_MARGIN: Final = 16
#: samples around a picture that vectors may lead to
_REACH: Final = _MARGIN + LONGEST
#: numbers of a strip's coefficients: small enough for a processor's cache
_STRIP: Final = 1 << 18


class _Picture:
    """A frame that is waited for or looked at: its luma for the search, its planes on the scale of noise."""

    def __init__(self, frame: VideoFrame, scales: Mapping[int, NoiseScale], bits: int) -> None:
        self.frame = frame
        self.pyramid: Pyramid = build_pyramid(read_plane(frame, 0), bits)
        self.planes = {
            index: np.pad(
                scale.apply(read_plane(frame, index)),
                (
                    (_REACH, _REACH + frame.planes[index].height % 2),
                    (_REACH, _REACH + frame.planes[index].width % 2),
                ),
                mode="symmetric",
            )
            for index, scale in scales.items()
        }


class MotionDenoise:
    """The filter "motion_denoise".

    Args:
        first: a frame like all that will come, planar.
        arguments: "radius": neighbours on each side; for each plane that is denoised "y", "u", "v": standard deviation of its
            noise in code values of 255; instead of "y", "y0" and "y255": at those code values. "frozen": share of the noise's variance
            that is the same in all pictures, 0 if absent.
        time_base: of the frames.

    Raises:
        MediaFault: ENCODE_FAILED, the pixel format is not planar.
    """

    def __init__(self, first: VideoFrame, arguments: Mapping[str, str], time_base: Fraction) -> None:
        components = first.format.components
        if len({component.plane for component in components}) != len(components):
            raise MediaFault("ENCODE_FAILED", f"Pictures of {first.format.name} cannot be denoised.")
        self._bits = components[0].bits
        self._copier = SampleCopier(time_base)
        self._radius = int(arguments["radius"])
        self._frozen = float(arguments.get("frozen", "0"))
        self._scales = {}
        for index, name in enumerate("yuv"[: len(components)]):
            dark, bright = (
                arguments.get(f"{name}0", arguments.get(name)),
                arguments.get(f"{name}255", arguments.get(name)),
            )
            if dark is not None and bright is not None:
                self._scales[index] = NoiseScale(float(dark), float(bright), self._bits)
        self._window: deque[_Picture] = deque()
        #: position in the window of the picture that is made next
        self._next = 0

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """Give it a frame, or None at the end, and take what comes out."""
        if frame is not None:
            self._window.append(_Picture(frame, self._scales, self._bits))
        while self._next < len(self._window) and (
            frame is None or len(self._window) - self._next > self._radius
        ):
            yield self._make()
            self._next += 1
            if self._next > self._radius:
                self._window.popleft()
                self._next -= 1

    def _make(self) -> VideoFrame:
        """Denoise the next picture of the window."""
        picture = self._window[self._next]
        neighbours = list(self._neighbours())
        made = self._copier.copy(picture.frame)
        for index, scale in self._scales.items():
            down, right = _shifts(picture.frame, index)
            shifted = [
                (other.planes[index], _subsampled(vectors, down, right)) for other, vectors in neighbours
            ]
            blocks = (BLOCK >> down, BLOCK >> right)
            shape = (made.planes[index].height, made.planes[index].width)
            denoised = denoise_plane(picture.planes[index], shifted, shape, blocks, self._frozen)
            write_plane(made, index, scale.invert(denoised))
        return made

    def _neighbours(self) -> Iterator[tuple[_Picture, Vectors]]:
        """The pictures around and the vectors to them; farther ones are looked for where nearer ones point to."""
        picture = self._window[self._next]
        for direction in (-1, 1):
            first: Vectors | None = None
            last: Vectors | None = None
            for distance in range(1, self._radius + 1):
                position = self._next + direction * distance
                if not 0 <= position < len(self._window):
                    break
                other = self._window[position]
                predicted = None
                if first is not None and last is not None:
                    predicted = np.clip(last + first, -LONGEST, LONGEST).astype(np.int16)
                last = find_motion(picture.pyramid, other.pyramid, predicted)
                first = last if first is None else first
                yield other, last


def denoise_plane(
    samples: NDArray[np.int16],
    neighbours: Sequence[tuple[NDArray[np.int16], Vectors]],
    shape: tuple[int, int],
    blocks: tuple[int, int],
    frozen: float = 0.0,
) -> Plane:
    """Denoise a plane on the scale of noise.

    Args:
        samples: with a margin around.
        neighbours: other planes alike, and the vectors to them.
        shape: rows and columns without the margin.
        blocks: rows and columns of a vector's block.
        frozen: share of the noise's variance that is the same in all.

    Returns:
        Without the margin.
    """
    inset = _REACH - _MARGIN
    inner = samples[inset : samples.shape[0] - inset, inset : samples.shape[1] - inset]
    lookups = [_Lookup(plane, vectors, blocks) for plane, vectors in neighbours]
    lattices = [_Lattice(inner.shape, offset, frozen) for offset in _OFFSETS]
    step = max(4, _STRIP // (hadamard.COEFFICIENTS * inner.shape[1] // hadamard.STEP))
    for top in range(0, inner.shape[0] // 2 - 1, step):
        lines = slice(2 * top, 2 * (top + step) + 2 + max(_OFFSETS))
        here = inner[lines]
        differences = [(lookup.rows(lines) - here).astype(np.float32) for lookup in lookups]
        for lattice in lattices:
            lattice.add_strip(top, step, here.astype(np.float32), differences)
    total = lattices[0].finish(step)
    for lattice in lattices[1:]:
        total += lattice.finish(step)
    result = total[_MARGIN : _MARGIN + shape[0], _MARGIN : _MARGIN + shape[1]]
    return result * np.float32(1 / (hadamard.GAIN * len(lattices)))


class _Lattice:
    """The blocks that begin at every second sample from one on."""

    def __init__(self, shape: tuple[int, int], offset: int, frozen: float) -> None:
        self._inside = slice(offset, -offset if offset else None)
        self._offset = offset
        self._frozen = frozen
        self._out = np.zeros(shape, np.float32)
        rows, columns = ((length - 2 * offset) // 2 - 1 for length in shape)
        self._sums = np.empty((rows, columns), np.float32)
        self._counts = np.empty((rows, columns), np.float32)

    def add_strip(self, top: int, step: int, samples: Plane, differences: Sequence[Plane]) -> None:
        """Denoise the blocks of some rows, but for their sums."""
        bottom = min(self._sums.shape[0], top + step)
        if bottom <= top:
            return
        lines = slice(self._offset, self._offset + 2 * (bottom - top) + 2)
        mean, count = _average(
            samples[lines, self._inside], [difference[lines, self._inside] for difference in differences]
        )
        if self._frozen:
            _count_frozen(count, self._frozen)
        self._sums[top:bottom], self._counts[top:bottom] = mean[0], count[0]
        _shrink(mean[1:], count[1:])
        mean[0] = 0
        first = 2 * top + self._offset
        self._out[first : first + 2 * (bottom - top) + 2, self._inside] += hadamard.inverse(mean)

    def finish(self, step: int) -> Plane:
        """Denoise the sums too and give the whole."""
        _add_sums(self._out[self._inside, self._inside], _shrink_sums(self._sums, self._counts, step))
        return self._out


class _Lookup:
    """Samples of a neighbour, shifted by vectors, in strips of rows."""

    def __init__(self, plane: NDArray[np.int16], vectors: Vectors, blocks: tuple[int, int]) -> None:
        self._flat = plane.reshape(-1)
        stride = plane.shape[1]
        height, width = plane.shape[0] - 2 * LONGEST, stride - 2 * LONGEST
        block_rows = np.clip((np.arange(height) - _MARGIN) // blocks[0], 0, vectors.shape[0] - 1)
        block_columns = np.clip((np.arange(width) - _MARGIN) // blocks[1], 0, vectors.shape[1] - 1)
        offsets = vectors[..., 0].astype(np.intp) * stride + vectors[..., 1]
        self._offsets = offsets[:, block_columns] + (np.arange(width) + LONGEST)
        self._block_rows = block_rows
        self._starts = (np.arange(height) + LONGEST) * stride

    def rows(self, lines: slice) -> NDArray[np.int16]:
        """Give rows, counted from the margin's first."""
        index = self._offsets[self._block_rows[lines]]
        index += self._starts[lines, None]
        taken: NDArray[np.int16] = np.take(self._flat, index)
        return taken


def _average(samples: Plane, differences: Sequence[Plane]) -> tuple[Plane, Plane]:
    """Coefficients, each averaged with those of the neighbours that noise explains, and of how many they are the mean."""
    mean = hadamard.forward(samples)
    count, total = np.ones_like(mean), np.zeros_like(mean)
    weight = np.empty_like(mean)
    for difference in differences:
        change = hadamard.forward(difference)
        np.multiply(change, change, out=weight)
        trust = np.add.reduce(weight, axis=0)
        trust *= np.float32(-_TRUST_SLOPE / (2 * hadamard.COEFFICIENTS * _SIGMA * _SIGMA))
        trust += np.float32(_TRUST_BASE)
        np.clip(trust, 0, 1, out=trust)
        weight *= np.float32(-_WEIGHT_SLOPE / (_SIGMA * _SIGMA))
        weight += np.float32(_WEIGHT_BASE)
        np.clip(weight, 0, 1, out=weight)
        weight *= trust
        count += weight
        weight *= change
        total += weight
    total /= count
    mean += total
    return mean, count


def _count_frozen(count: Plane, frozen: float) -> None:
    """Make counts those of independent noise, in place: what is the same in all pictures stays in their mean."""
    shared = count * np.float32(frozen)
    shared += np.float32(1 - frozen)
    count /= shared


def _shrink(coefficients: Plane, count: Plane) -> None:
    """Take from coefficients what noise they must hold, in place."""
    power = coefficients * coefficients
    power *= count
    power += np.float32(1)
    np.divide(np.float32(-_SHRINK * _SIGMA * _SIGMA), power, out=power)
    power += np.float32(1)
    np.maximum(power, 0, out=power)
    coefficients *= power


def _shrink_sums(sums: Plane, counts: Plane, step: int) -> Plane:
    """The blocks' sums without noise of coarser grain."""
    around = 3 * hadamard.STEP
    rows, columns = sums.shape[0] - around, sums.shape[1] - around
    out = np.zeros_like(sums)
    quarter = sums * np.float32(0.25)
    for top in range(0, rows, step):
        bottom = min(rows, top + step)
        coarse = hadamard.forward_dilated(quarter[top : bottom + around], hadamard.STEP)
        _shrink(coarse[1:], counts[top:bottom, :columns])
        out[top : bottom + around] += hadamard.inverse_dilated(coarse, hadamard.STEP)
    out *= np.float32(4 / 256)
    return out


def _add_sums(out: Plane, sums: Plane) -> None:
    """Add to samples what blocks' sums stand for."""
    quads = np.zeros((sums.shape[0] + 1, sums.shape[1] + 1), np.float32)
    for down in (slice(None, -1), slice(1, None)):
        for right in (slice(None, -1), slice(1, None)):
            quads[down, right] += sums
    for row in (0, 1):
        for column in (0, 1):
            out[row::2, column::2] += quads


def _shifts(frame: VideoFrame, index: int) -> tuple[int, int]:
    """By how many bits a plane's rows and columns are fewer than the luma's."""
    luma, plane = frame.planes[0], frame.planes[index]
    return int(plane.height < luma.height), int(plane.width < luma.width)


def _subsampled(vectors: Vectors, down: int, right: int) -> Vectors:
    """Vectors for a plane of fewer rows and columns, rounded half up."""
    return np.stack([(vectors[..., 0] + down) >> down, (vectors[..., 1] + right) >> right], axis=2)
