"""Plays a file in GStreamer and prints what it saw as JSON; run by Debian's own Python, which has GStreamer's bindings.

    /usr/bin/python3 gstreamer_program.py FILE NANOSECONDS

Plays the whole file as fast as it goes, then from that place to the end.
"""

# ruff: noqa: ANN401 - the bindings have no types

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gi  # type: ignore[import-not-found,import-untyped,unused-ignore]

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

#: nanoseconds until a pipeline must have something to say
_PATIENCE = 60 * Gst.SECOND


def main(path: str, middle: str) -> None:
    """Play a file twice and print what was seen."""
    Gst.init(None)
    whole, later = _play(path), _play(path, int(middle))
    print(json.dumps({"version": Gst.version_string(), "whole": whole, "later": later}))


def _play(path: str, begin: int = 0) -> dict[str, Any]:
    player = Gst.ElementFactory.make("playbin")
    player.set_property("uri", Path(path).resolve().as_uri())
    times: dict[str, list[int]] = {}
    for kind in ("video", "audio"):
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("sync", False)
        times[kind] = []
        sink.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, _counter(times[kind]))
        player.set_property(f"{kind}-sink", sink)
    seen: dict[str, Any] = {"ended": False, "errors": [], "orientation": ""}
    bus = player.get_bus()
    try:
        player.set_state(Gst.State.PAUSED)
        _wait(bus, seen, Gst.MessageType.ASYNC_DONE)
        _, length = player.query_duration(Gst.Format.TIME)
        seen["length"] = length
        if begin and not seen["errors"]:
            for row in times.values():
                row.clear()
            player.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE, begin)
            _wait(bus, seen, Gst.MessageType.ASYNC_DONE)
        player.set_state(Gst.State.PLAYING)
        seen["ended"] = not seen["errors"] and _wait(bus, seen, Gst.MessageType.EOS)
        seen["shown as"] = _caps(player.get_property("video-sink"))
    finally:
        player.set_state(Gst.State.NULL)
    return {**seen, "pictures": times["video"], "sound": times["audio"]}


def _counter(times: list[int]) -> Callable[..., Any]:
    """Note the stream time of each buffer: where it lies in what a player shows."""

    def note(pad: Any, info: Any) -> Any:
        event = pad.get_sticky_event(Gst.EventType.SEGMENT, 0)
        segment = event.parse_segment() if event else None
        buffer = info.get_buffer()
        if segment is not None and buffer.pts != Gst.CLOCK_TIME_NONE:
            inside, start, _ = segment.clip(Gst.Format.TIME, buffer.pts, buffer.pts + 1)
            if inside:
                times.append(segment.to_stream_time(Gst.Format.TIME, start))
        return Gst.PadProbeReturn.OK

    return note


def _wait(bus: Any, seen: dict[str, Any], for_what: Any) -> bool:
    """Wait for a message; False after an error or too long."""
    wanted = for_what | Gst.MessageType.ERROR | Gst.MessageType.TAG
    while True:
        message = bus.timed_pop_filtered(_PATIENCE, wanted)
        if message is None:
            seen["errors"].append("it did not end")
            return False
        if message.type == Gst.MessageType.ERROR:
            seen["errors"].append(message.parse_error()[0].message)
            return False
        if message.type == Gst.MessageType.TAG:
            told, value = message.parse_tag().get_string("image-orientation")
            seen["orientation"] = value if told else seen["orientation"]
            continue
        return True


def _caps(sink: Any) -> dict[str, str]:
    caps = sink.get_static_pad("sink").get_current_caps()
    if caps is None:
        return {}
    told = re.findall(r"([\w-]+)=\([\w/]+\)([\w:./-]+)", caps.to_string())
    return {name: value for name, value in told if name not in {"framerate", "max-framerate"}}


if __name__ == "__main__":
    main(*sys.argv[1:])
