"""Opens a stranger's file. FFmpeg gets one descriptor and may open nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.error
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from videoprocess_server.media.declared_matroska import EBML
from videoprocess_server.media.faults import MediaFault

#: how a file begins → FFmpeg's demuxer for it; what begins otherwise is an MP4, MOV or 3GP file or none that is taken.
#: Only these two are ever asked, so no playlist, which would name other files, is looked at as one.
_DEMUXER_OF_BEGINNING = ((EBML, "matroska"), (b"", "mov"))
#: all names that FFmpeg has for each of them
DEMUXER_NAMES = {"mov": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}
#: decoded pixels do not depend on it; parallelism is across segments. With more, H.264 frames may come before the decoder has
#: marked them as damaged (measured, libavcodec 62.28: 5 of 156 with some bits turned): no check may rely on those
DECODER_THREADS = 1
#: pixels of a coded picture above which decoders refuse, whatever the container declared: 8192 x 4320
MAX_DECODED_PIXELS = 8192 * 4320

_NOT_A_VIDEO = "The file is not a whole MP4, MOV, 3GP, MKV or WebM file."


@contextmanager
def open_source(fd: int, *, ignore_edit_list: bool = False) -> Iterator[InputContainer]:
    """Open the file behind a descriptor; the descriptor stays open, its offset moves.

    Args:
        fd: a seekable descriptor, from whose start the file is read.
        ignore_edit_list: whether to show all samples, also those that the edit list cuts off.

    Raises:
        MediaFault: NOT_A_VIDEO where no demuxer can read it.
    """
    demuxer = demuxer_of(fd)
    options = {
        "fd": str(fd),
        "protocol_whitelist": "fd",
        "format_whitelist": demuxer,
        "enable_drefs": "0",
        "use_absolute_path": "0",
        # Decoders are asked already when a file is opened, for what its head does not tell.
        "max_pixels": str(MAX_DECODED_PIXELS),
    }
    if ignore_edit_list:
        options["ignore_editlist"] = "1"
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        # A tag that is not UTF-8 must not make a playable file unreadable.
        container = av.open("fd:", mode="r", format=demuxer, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, MemoryError, ValueError, OSError) as error:
        # MemoryError: FFmpeg's answer to an absurd count in a small file.
        raise MediaFault("NOT_A_VIDEO", _NOT_A_VIDEO) from error
    try:
        yield container
    finally:
        container.close()


def demuxer_of(fd: int) -> str:
    """Return FFmpeg's name of the one demuxer that a file is opened with, by its first bytes."""
    head = os.pread(fd, len(EBML), 0)
    return next(demuxer for beginning, demuxer in _DEMUXER_OF_BEGINNING if head.startswith(beginning))


def video_stream(container: InputContainer, index: int) -> VideoStream:
    """Give the video stream of that index, its decoder prepared but not yet opened; the others deliver nothing.

    Raises:
        MediaFault: SOURCE_CHANGED where the file no longer has it.
    """
    stream = container.streams[index] if index < len(container.streams) else None
    if not isinstance(stream, VideoStream):
        raise MediaFault("SOURCE_CHANGED", f"The file no longer has a video track {index}.")
    for other in container.streams:
        if other.index != index:
            other.discard = Discard.all  # the demuxer need not read what nobody asks for
    prepare_decoder(stream)
    return stream


def prepare_decoder(stream: VideoStream) -> None:
    """Fix the decoder's threads and bound what it allocates."""
    context = stream.codec_context
    context.thread_count = DECODER_THREADS
    context.thread_type = "NONE"
    context.options = {"max_pixels": str(MAX_DECODED_PIXELS)}
