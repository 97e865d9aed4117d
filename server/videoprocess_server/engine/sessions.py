"""Sessions: who opened them, their streams and their settings."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from videoprocess_server.engine import fingerprint
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.events import EventHub
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.requests import answered_before, remember
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.hdi import EncodeType, ExecutionMode, StreamIntent
from videoprocess_server.model.records import Session
from videoprocess_server.model.settings_snapshot import ModeSetting, Snapshot, StreamInfo
from videoprocess_server.store.repository import Reader, Repository, Transaction

_PICTURES = frozenset({EncodeType.NULL, EncodeType.JPEG, EncodeType.HEIC, EncodeType.DNG_XDRAW})
_VIDEOS = frozenset({EncodeType.NULL, EncodeType.H264, EncodeType.H265})

#: what an intent can be encoded as at all, whatever this build makes
ENCODE_TYPES_OF_INTENT: dict[StreamIntent, frozenset[EncodeType]] = {
    StreamIntent.PREVIEW: _VIDEOS,
    StreamIntent.VIDEO: _VIDEOS,
    StreamIntent.STILL_CAPTURE: _PICTURES,
    StreamIntent.POST_VIEW: _PICTURES,
    StreamIntent.ANALYZE: frozenset({EncodeType.NULL}),
    StreamIntent.CUSTOM: frozenset({EncodeType.NULL}),
}

IDLE_SESSIONS_PER_SWEEP = 256


class Sessions:
    """Opens and closes sessions and keeps their streams."""

    def __init__(
        self, repository: Repository, hub: EventHub, policy: Policy, clock: Clock, limits: Limits
    ) -> None:
        self._repository = repository
        self._hub = hub
        self._policy = policy
        self._clock = clock
        self._limits = limits
        self._lock = threading.Lock()
        #: uses since the start, newer than the rows: a row a call would cost an fsync a call
        self._last_used_us: dict[str, int] = {}
        self._idle_since_us = clock.now_us()

    def create(self, caller: Caller, user_id: int, execution_mode: ExecutionMode, request_id: str) -> Session:
        """Open a session; the same request_id gets the same session.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, SESSION_LIMIT, REQUEST_ID_REUSED.
        """
        authorise(self._policy, caller, user_id)
        now = self._clock.now_us()
        arguments = fingerprint.of(user_id, execution_mode)
        with self._repository.transaction() as tx:
            before = answered_before(tx, user_id, "CreateVideoProcessSession", request_id, arguments)
            session = tx.get_session(before) if before else None
            if session is not None:
                return session
            if tx.count_open_sessions(user_id) >= self._limits.max_sessions_per_user:
                raise VideoProcessError(
                    "SESSION_LIMIT", f"user {user_id} has {self._limits.max_sessions_per_user} sessions"
                )
            if tx.count_open_sessions() >= self._limits.max_sessions:
                raise VideoProcessError(
                    "SESSION_LIMIT", f"the service has {self._limits.max_sessions} sessions"
                )
            session = Session(
                session_id=new_id(),
                user_id=user_id,
                execution_mode=execution_mode,
                create_time_us=now,
                last_used_time_us=now,
            )
            tx.put_session(session)
            remember(tx, user_id, "CreateVideoProcessSession", request_id, arguments, session.session_id, now)
        return session

    def use(self, caller: Caller, session_id: str) -> Session:
        """Return an open session the caller may use, and count the use.

        Raises:
            VideoProcessError: SESSION_CLOSED, which does not tell a foreign session from an unknown one.
        """
        with self._repository.read() as reader:
            session = self.open_session(reader, session_id)
        self._may_use(caller, session)
        with self._lock:
            self._last_used_us[session_id] = self._clock.now_us()
        return session

    def open_session(self, reader: Reader, session_id: str) -> Session:
        """Return an open session of the view.

        Raises:
            VideoProcessError: SESSION_CLOSED.
        """
        session = reader.get_session(session_id) if session_id else None
        if session is None or session.close_time_us is not None:
            raise _closed()
        return session

    def close(self, caller: Caller, session_id: str) -> None:
        """Close a session with its streams and settings; closing again does nothing.

        Raises:
            VideoProcessError: SESSION_CLOSED if there never was such a session, or it is another's.
        """
        with self._repository.transaction() as tx:
            session = tx.get_session(session_id) if session_id else None
            if session is None:
                raise _closed()
            self._may_use(caller, session)
            if session.close_time_us is None:
                tx.put_session(
                    replace(session, close_time_us=self._clock.now_us(), streams=(), committed=None)
                )
        with self._lock:
            self._last_used_us.pop(session_id, None)
        self._hub.committed(session.user_id)

    def create_streams(self, caller: Caller, session_id: str, streams: Sequence[StreamInfo]) -> None:
        """Add streams; they count from the next CommitStreams on.

        Raises:
            VideoProcessError: SESSION_CLOSED, INVALID_FIELD, ENCODE_TYPE_NOT_SUPPORTED, STREAM_LIMIT.
        """
        self.use(caller, session_id)
        if not streams:
            raise VideoProcessError("INVALID_FIELD", "give at least one stream", {"stream_infos": "is empty"})
        for position, stream in enumerate(streams):
            _check_stream(stream, f"stream_infos[{position}]")
        with self._repository.transaction() as tx:
            session = self.open_session(tx, session_id)
            together = (*session.streams, *streams)
            seen: set[int] = set()
            for stream in together:
                if stream.stream_id in seen:
                    raise VideoProcessError(
                        "INVALID_FIELD",
                        f"stream id {stream.stream_id} is there already",
                        {"stream_infos": f"stream_id {stream.stream_id} is used twice"},
                    )
                seen.add(stream.stream_id)
            if len(together) > self._limits.max_streams_per_session:
                raise VideoProcessError(
                    "STREAM_LIMIT", f"a session has at most {self._limits.max_streams_per_session} streams"
                )
            tx.put_session(replace(session, streams=together))

    def commit_streams(self, caller: Caller, session_id: str, mode_setting: ModeSetting) -> None:
        """Freeze the created streams with the settings.

        Raises:
            VideoProcessError: SESSION_CLOSED, NO_STREAM_CREATED.
        """
        self.use(caller, session_id)
        with self._repository.transaction() as tx:
            session = self.open_session(tx, session_id)
            if not session.streams:
                raise VideoProcessError(
                    "NO_STREAM_CREATED", "no stream was created in this session: call CreateStreams first"
                )
            tx.put_session(
                replace(session, committed=Snapshot(streams=session.streams, mode_setting=mode_setting))
            )

    def release_streams(self, caller: Caller, session_id: str, stream_ids: Sequence[int]) -> None:
        """Drop streams by id; unknown ids are ignored.

        Raises:
            VideoProcessError: SESSION_CLOSED.
        """
        self.use(caller, session_id)
        gone = set(stream_ids)
        with self._repository.transaction() as tx:
            session = self.open_session(tx, session_id)
            committed = session.committed
            if committed is not None:
                kept = tuple(stream for stream in committed.streams if stream.stream_id not in gone)
                committed = replace(committed, streams=kept) if kept else None
            streams = tuple(stream for stream in session.streams if stream.stream_id not in gone)
            tx.put_session(replace(session, streams=streams, committed=committed))

    def give_idle_time_again(self) -> None:
        """Count the idle time of every session from now: a clock that was set tells nothing of its last use."""
        self._idle_since_us = self._clock.now_us()

    def close_idle(self) -> int:
        """Close sessions without a call, a subscriber or active work for the idle time; return how many."""
        now = self._clock.now_us()
        self._note_uses(now)
        limit = now - self._limits.session_idle_timeout_us
        if self._idle_since_us > limit:
            return 0
        with self._repository.transaction() as tx:
            candidates = tx.list_idle_sessions(limit, IDLE_SESSIONS_PER_SWEEP)
            idle = [session for session in candidates if not self._note_use(tx, session, now, limit)]
            for session in idle:
                tx.put_session(replace(session, close_time_us=now, streams=(), committed=None))
        with self._lock:
            for session in idle:
                self._last_used_us.pop(session.session_id, None)
        return len(idle)

    def _note_uses(self, now: int) -> None:
        """Write uses into rows of half the idle time's age: other replicas close sessions by their rows."""
        before = now - self._limits.session_idle_timeout_us // 2
        with self._repository.read() as reader:
            old = reader.list_idle_sessions(before, self._limits.max_sessions)
        used = [session for session in old if self._used_us(session, now) > session.last_used_time_us]
        if not used:
            return
        with self._repository.transaction() as tx:
            for session in used:
                current = tx.get_session(session.session_id)
                if current is not None and current.close_time_us is None:
                    tx.put_session(replace(current, last_used_time_us=self._used_us(session, now)))

    def _used_us(self, session: Session, now: int) -> int:
        """Return when a session was last used here; 0 where it was not."""
        if self._hub.has_subscriber(session.user_id, session.session_id):
            return now
        return self._last_used_us.get(session.session_id, 0)

    def _note_use(self, tx: Transaction, session: Session, now: int, limit: int) -> bool:
        """Write into a session's row that it is used, or was lately; return False if it is idle."""
        used = self._used_us(session, now)
        if tx.list_active_jobs(session_id=session.session_id, limit=1):
            used = now
        if used <= limit:
            return False
        tx.put_session(replace(session, last_used_time_us=used))
        return True

    def _may_use(self, caller: Caller, session: Session) -> None:
        if not self._policy.allows(caller, session.user_id):
            raise _closed()


def _closed() -> VideoProcessError:
    return VideoProcessError("SESSION_CLOSED", "the session is unknown or closed: open a new one")


def _check_stream(stream: StreamInfo, field: str) -> None:
    for name, value in (("width", stream.width), ("height", stream.height)):
        if value < 0:
            raise VideoProcessError(
                "INVALID_FIELD", f"{field}: {name} is negative", {f"{field}.v1_0.{name}": "is negative"}
            )
    if stream.encode_type not in ENCODE_TYPES_OF_INTENT[stream.intent]:
        raise VideoProcessError(
            "ENCODE_TYPE_NOT_SUPPORTED",
            f"{field}: a {stream.intent.name} stream cannot be encoded as {stream.encode_type.name}",
        )
