"""Whatever callers send: a line of the log stays one line, steers no terminal and has an end."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from raw_http2 import (
    DATA,
    EMPTY_MESSAGE,
    END_STREAM,
    GET_VIDEO,
    GOAWAY,
    HEADERS,
    HEALTH,
    RST_STREAM,
    RawConnection,
    begin,
    frame,
)
from service_harness import Api, Server, connect, refused
from videoprocess.v1 import file_transfer_pb2 as transfer
from videoprocess.v1 import video_catalog_pb2 as catalog
from videoprocess.v1 import video_process_session_pb2 as session
from videoprocess_server.rpc.rate_limits import Rate
from videoprocess_server.rpc.refusal_log import RefusalLog
from videoprocess_server.telemetry.harmless import MAX_ITEMS, MAX_TEXT_CHARACTERS, TRACEBACK_MARGIN
from videoprocess_server.telemetry.logging import LogFormat, configure

FORGED = "2026-01-01T00:00:00Z [info] forged user_id=1"
ATTACKS = {
    "a line feed": f"x\n{FORGED}",
    "a carriage return": f"x\r{FORGED}",
    "other ends of lines": f"x\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029{FORGED}",
    "colours": "x\x1b[2J\x1b[31mred\x1b[0m",
    "a title": "x\x1b]0;title\x07\x9b31m\x90q\x9c",
    "a backspace": "secret\b\b\b\b\b\bpublic\x00\x7f",
    "the other direction": "gpj.\u202eexe\u202d\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "no width": "a\u200bb\u200c\u200d\u2060\ufeff\U000e0001\U000e0041",
    "half a surrogate pair": "\ud800x\udfff",
    "quotes": '"}\n{"event": "forged"}',
    "much": "x" * 1_000_000,
}


@pytest.fixture(name="out")
def _out() -> Iterator[io.StringIO]:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield io.StringIO()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:], logging.getLogger().level = before


def _check(text: str) -> str:
    """Returns the one line."""
    assert text.endswith("\n")
    line = text[:-1]
    assert line.isprintable(), [character for character in line if not character.isprintable()]
    return line


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_no_text_leaves_its_line(log_format: LogFormat, attack: str, out: io.StringIO) -> None:
    configure(log_format, "info", out)
    with structlog.contextvars.bound_contextvars(video_id=attack):
        structlog.get_logger().info(
            attack,
            **{attack: attack, "file_name": attack},
            nested={attack: [attack, (attack,)]},
            data=attack.encode("utf-8", "surrogatepass"),
            error=ValueError(attack),
            path=Path(attack.replace("\x00", "")),
        )
    line = _check(out.getvalue())
    assert len(line) < 12 * 6 * MAX_TEXT_CHARACTERS
    if log_format is LogFormat.JSON:
        for text in _texts(json.loads(line)):
            assert text.isprintable()


def _texts(value: Any) -> Iterator[str]:
    """All texts that a program which reads the line gets."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
@given(text=st.text())
def test_no_text_at_all_leaves_its_line(log_format: LogFormat, text: str) -> None:
    out = io.StringIO()
    configure(log_format, "info", out)
    try:
        structlog.get_logger().info(text, **{f"_{text}": text})
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = []
    _check(out.getvalue())


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_no_line_of_a_traceback_looks_like_one_of_the_log(attack: str, out: io.StringIO) -> None:
    configure(LogFormat.CONSOLE, "info", out)
    try:
        _break(attack)
    except ValueError:
        structlog.get_logger().exception("it_broke")
    first, *others = out.getvalue().splitlines()
    assert "it_broke" in first
    assert others
    assert all(line.startswith(TRACEBACK_MARGIN) and line.isprintable() for line in others)
    assert len(out.getvalue()) < 20 * MAX_TEXT_CHARACTERS


def _break(text: str) -> None:
    raise ValueError(text)


def test_long_lists_are_cut(out: io.StringIO) -> None:
    configure(LogFormat.JSON, "info", out)
    structlog.get_logger().info("much", items=list(range(10_000)), table={str(i): i for i in range(10_000)})
    line = json.loads(_check(out.getvalue()))
    assert len(line["items"]) == len(line["table"]) == MAX_ITEMS


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_libraries_log_the_same_way(log_format: LogFormat, out: io.StringIO) -> None:
    configure(log_format, "info", out)
    logging.getLogger("grpc._cython.cygrpc").error("Unexpected %s", ATTACKS["a line feed"])
    line = _check(out.getvalue())
    assert "grpc._cython.cygrpc" in line
    assert "Unexpected x" in line


def test_refused_calls_have_so_many_lines(out: io.StringIO) -> None:
    """Whoever calls in vain fills no disk; who calls how often is told all the same."""
    configure(LogFormat.JSON, "info", out)
    now = [0.0]
    refusals = RefusalLog(lambda: now[0], Rate(2.0, 3))
    for number in range(10):
        refusals.tell(reason=f"R{number}")
    now[0] = 0.5
    refusals.tell(reason="later")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["reason"] for line in lines] == ["R0", "R1", "R2", "later"]
    assert [line.get("untold_calls") for line in lines] == [None, None, None, 7]


@pytest.fixture(name="talkative", scope="module")
def _talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("talkative") / "data"
    with Server(data_dir, "--workers", "1", "--log-level", "debug") as server:
        yield server


@pytest.fixture(name="debug_api")
async def _debug_api(talkative: Server) -> AsyncIterator[Api]:
    async with connect(talkative) as api:
        yield api


async def test_texts_of_every_kind_of_request_stay_in_their_lines(talkative: Server, debug_api: Api) -> None:
    session_id = await debug_api.open_session()
    for attack in ATTACKS.values():
        text = attack.encode("utf-8", "replace").decode()[:200_000]
        metadata = (
            ("x-attack-bin", text.encode()[:4000]),
            ("user-agent", text.encode("ascii", "replace")[:99]),
        )
        metadata = tuple(
            pair for pair in metadata if pair[0].endswith("-bin") or pair[1].decode().isprintable()
        )
        for call, request in (
            (debug_api.catalog.GetVideo, catalog.GetVideoRequest(user_id=1, video_id=text)),
            (debug_api.catalog.ListVideos, catalog.ListVideosRequest(user_id=1, page_token=text)),
            (debug_api.transfer.QueryUpload, transfer.QueryUploadRequest(user_id=1, upload_id=text)),
            (debug_api.session.Reset, session.ResetRequest(session_id=text)),
            (
                debug_api.session.ProcessVideo,
                session.ProcessVideoRequest(session_id=session_id, video_id=text, request_id=text),
            ),
        ):
            await refused(call(request, metadata=metadata))
        header = transfer.UploadHeader(user_id=1, file_name=text, upload_id=text)
        await refused(debug_api.transfer.Upload(_each(transfer.UploadRequest(header=header))))
    for line in talkative.log_path.read_text().splitlines():
        assert len(line) < 20_000
        for text in _texts(json.loads(line)):
            assert text.isprintable(), line
            assert text != "forged"


async def _each(message: Any) -> AsyncIterator[Any]:
    yield message


def test_a_token_with_a_byte_too_many_is_not_told(talkative: Server) -> None:
    """gRPC itself logs headers that are not UTF-8, with their values."""
    with RawConnection(talkative.address) as connection:
        header = (b"authorization", b"Bearer a-token-of-somebody\xff")
        connection.send(begin(GET_VIDEO, 1, [header]) + frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
        assert any(found.kind == HEADERS for found in connection.read(5, HEADERS))
    log = talkative.log_path.read_text()
    assert "not UTF-8" in log
    assert "a-token-of-somebody" not in log


def test_headers_by_hand_stay_in_their_lines(talkative: Server) -> None:
    """No client library sends such headers; a socket does."""
    for name in (b"user-agent", b"x-text", b"x\nforged", b":path"):
        for value in (b"x\nforged", b"x\r\nforged", b"x\x1b[2Jforged", b"/x\xe2\x80\xaeforged"):
            with RawConnection(talkative.address) as connection:
                connection.send(begin(HEALTH, 1, [(name, value)]) + frame(DATA, END_STREAM, 1, EMPTY_MESSAGE))
                connection.read(0.05, GOAWAY, RST_STREAM)
    for line in talkative.log_path.read_text().splitlines():
        assert all(text.isprintable() for text in _texts(json.loads(line))), line
