"""What an operator decides. Flags over environment over file over defaults; validated once, before anything starts."""

from __future__ import annotations

import os
import pwd
import re
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from videoprocess_server.model.gates import QuietPeriod

ENVIRONMENT_PREFIX = "VIDEOPROCESS_"
CONFIG_VARIABLE = "VIDEOPROCESS_CONFIG"
MAX_PORT = 65_535
_DAY = 24 * 3600.0
_CENTURY = 36_525 * _DAY  # what is kept for longer is kept for ever
DATABASE_SCHEMES = ("postgresql", "postgres")
FD_SOCKET_NAME = "fd.sock"
_OTHER_CONFIG = "name a file that can be read with --config"
_USER_ID = re.compile(r"-?\d{1,10}")
_WRITABLE = "rw"
_ROOT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SCHEMA_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,39}")
_LOOPBACK = re.compile(r"(127(\.\d{1,3}){3}|localhost|\[::1\]):\d{1,5}|unix:.+")


class SharedRootSetting(BaseModel):
    """A directory whose files callers may name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    path: Path
    #: whether results may be written there
    writable: bool = False
    #: user ids that may name it; empty for all
    users: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> SharedRootSetting:
        """Read NAME[,rw][,USER_ID...]=PATH: what comes before the first "=" is no path."""
        head, separator, path = text.partition("=")
        if not separator or not path:
            raise ValueError(f"{text!r} is not NAME=PATH or NAME[,rw][,USER_ID...]=PATH")
        name, *words = head.split(",")
        users = [word for word in words if word != _WRITABLE]
        if words.count(_WRITABLE) > 1 or not all(_USER_ID.fullmatch(user) for user in users):
            raise ValueError(
                f"shared root {text!r}: after the name come rw and user ids, e.g. out,rw,100=/srv/out"
            )
        return cls(name=name, path=Path(path), writable=_WRITABLE in words, users=tuple(map(int, users)))

    @model_validator(mode="after")
    def _check(self) -> SharedRootSetting:
        if not _ROOT_NAME.fullmatch(self.name):
            raise ValueError(f"shared root name {self.name!r}: use a-z, 0-9, - and _")
        if not self.path.is_dir():
            raise ValueError(f"shared root {self.name}: {self.path} is not a directory")
        return self


def _check_apart(root: SharedRootSetting, data_dir: Path) -> None:
    """Return unless callers could reach the service's own files through a root."""
    shared, own = root.path.resolve(), data_dir.resolve()
    if shared.is_relative_to(own) or (root.writable and own.is_relative_to(shared)):
        raise ValueError(
            f"shared root {root.name}: {root.path} and the data directory {data_dir} are not apart"
        )


def _system_user(text: str) -> int:
    """Read a system user's name or number."""
    if text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"there is no system user {text!r}") from None


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and int(port) <= MAX_PORT


def _check_readable(config: Path) -> None:
    """Return if it is a file that can be read: what reads it takes others for empty.

    Raises:
        ConfigFileError: it is none.
    """
    try:
        if not stat.S_ISREG(config.stat().st_mode):
            raise ConfigFileError(f"{config} is no file: {_OTHER_CONFIG}")
        with config.open("rb"):
            pass
    except OSError as error:
        raise ConfigFileError(f"{config}: {error.strerror}: {_OTHER_CONFIG}") from error


class ConfigFileError(Exception):
    """The file of settings cannot be read; the text says why and what to do."""


class Settings(BaseSettings):
    """All settings of `serve`."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True, allow_inf_nan=False
    )

    listen: str = Field(
        "127.0.0.1:50051",
        description="Address to listen on, HOST:PORT or unix:PATH; port 0 picks a free one.",
    )
    health_listen: str = Field(
        "",
        description="Address, HOST:PORT, that answers health checks alone, in plain text and to everybody: "
        "for probes that know no TLS.",
    )
    insecure_listen_anywhere: bool = Field(
        False, description="Listen beyond this machine without TLS, and let every caller act for every user."
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the service's certificate and those that sign it; read again when it changes.",
    )
    tls_key: Path | None = Field(
        None,
        description="PEM file of the certificate's key, RSA or EC, without a passphrase and closed to others.",
    )
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of the authorities that sign clients' certificates: then nobody connects without one.",
    )
    token_file: Path | None = Field(
        None,
        description="TOML file of identities: digests of their tokens, names of their certificates, and their users.",
    )
    jwks_file: Path | None = Field(
        None, description="JSON web key set: JSON web tokens that one of its keys has signed are taken."
    )
    jwt_issuer: str = Field("", description="The issuer (iss) that JSON web tokens must name.")
    jwt_audience: str = Field(
        "", description="The audience (aud) that JSON web tokens must name: this service."
    )
    jwt_users_claim: str = Field(
        "user_ids",
        min_length=1,
        description="Claim of JSON web tokens that holds the users its owner may act for.",
    )
    data_dir: Path = Field(
        Path("data"), description="Directory of everything the service keeps; one service at a time has it."
    )
    database_url: str = Field(
        "",
        description="Address of a PostgreSQL database that keeps the rows: postgresql://USER@HOST:PORT/DATABASE; what it leaves "
        "open, the password above all, comes from where libpq looks (PGPASSFILE, PGPASSWORD, a service file). "
        "Needs the extra postgres. Default: SQLite in the data directory.",
    )
    database_schema: str = Field(
        "videoprocess",
        description="Schema of that database that holds everything of this service, made where there is none.",
    )
    database_connections: int = Field(
        16,
        ge=1,
        le=1000,
        description="Connections to that database at once that read; besides there are one that writes and two for notices.",
    )
    blob_url: str = Field(
        "",
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[0-9A-Za-z_.-]+)*/?)?$",
        description="s3://BUCKET/PREFIX where uploads, segments and results are kept; needs the extra s3. Default: the data directory.",
    )
    s3_endpoint: str = Field(
        "", pattern=r"^(https?://[^\s/@]+/?)?$", description="URL of an S3 server. Default: that of AWS."
    )
    s3_region: str = Field(
        "", pattern=r"^[0-9a-z-]*$", description="Region of the bucket. Default: what AWS_REGION says."
    )
    s3_cache_bytes: int = Field(
        0,
        ge=0,
        description="Bytes of the bucket's files that are kept at hand in the data directory; more only while more are in use. "
        "0 is half of what its disk has left.",
    )
    shared_root: Annotated[tuple[SharedRootSetting, ...], NoDecode] = Field(
        (),
        description="NAME=PATH of a directory whose files callers may name; NAME,rw=PATH: and where results may be written; "
        "NAME,rw,USER_ID,...=PATH: by these users only. May be given several times.",
    )
    fd_socket: Path | Literal["off"] | None = Field(
        None,
        description="Unix socket over which callers on this machine pass open files to Prepare, or off. "
        "Default: fd.sock in the data directory.",
    )
    fd_users: Annotated[tuple[int, ...], NoDecode] = Field(
        (),
        description="System user, by name or number, who may pass files besides the service's own and root; "
        "may be given several times.",
    )
    address_file: Path | None = Field(
        None,
        description="File that the address is written to once the service is SERVING; tells the port that port 0 picked.",
    )
    metrics_listen: str = Field(
        "",
        description="Address to serve Prometheus metrics on over plain HTTP, at /metrics: PORT of 127.0.0.1, or HOST:PORT. "
        "Default: nowhere.",
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"(https?://[^\s/@]+:\d{1,5}/?)?",
        description="URL of an OpenTelemetry collector's OTLP over gRPC that traces are sent to, e.g. http://127.0.0.1:4317; "
        "https with TLS. Needs the extra tracing. Default: nowhere.",
    )
    trace_percent: float = Field(
        100.0,
        ge=0,
        le=100,
        description="Share of the traces that begin here that are sent; of a caller's trace the caller decides.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="Worker processes on this machine; 0 is one for each core. They encode, unless the executor is ray: "
        "then they join what it made.",
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="Where videos are encoded: on this machine, or on the nodes of a Ray cluster."
    )
    ray_address: str = Field(
        "auto",
        pattern=r"auto|[^\s/@]+:\d{1,5}",
        description="HOST:PORT of the Ray cluster's head; auto finds the cluster that this machine is a node of.",
    )
    ray_namespace: str = Field(
        "videoprocess",
        min_length=1,
        description="Namespace in the Ray cluster; each service has one of its own.",
    )
    ray_workers: int = Field(
        0,
        ge=0,
        le=4096,
        description="Tasks on the Ray cluster at once; 0 is one for each CPU it has at the start.",
    )
    ray_stage: Path | None = Field(
        None,
        description="Directory under which all nodes see the data directory, e.g. over NFS. Default: files are copied.",
    )
    ray_node_dir: Path | None = Field(
        None,
        description="Directory on each Ray node for copies of files. Default: the node's own for temporary ones.",
    )
    ray_cache_bytes: int = Field(
        20 << 30, ge=1 << 20, description="Bytes of copies on each Ray node; what no task reads goes first."
    )
    max_running_jobs: int = Field(2, ge=1, le=64, description="Jobs that run at once and share the workers.")
    segment_seconds: float = Field(
        4.0, ge=0.1, le=60, description="A segment ends at the first key frame after this time."
    )
    longest_gop_seconds: float = Field(
        8.0, ge=0.1, le=600, description="A GOP longer than this is cut inside."
    )
    memory_budget_bytes: int = Field(
        0,
        ge=0,
        description="Memory that workers may take together; 0 is 80 % of what the machine or cgroup has.",
    )
    parked_seconds: float = Field(
        600.0, ge=0, description="Interrupted work keeps its frozen workers for so long."
    )
    max_parked_bytes: int = Field(
        0, ge=0, description="Memory that frozen workers may hold; 0 is a quarter of the memory budget."
    )
    max_blocked_seconds: float = Field(
        0.0, ge=0, description="A job that gates or others block for longer ends in an error; 0 is never."
    )
    stall_seconds: float = Field(1200.0, ge=1, description="A task without progress for longer is given up.")
    transfer_stall_seconds: float = Field(
        60.0, ge=0.1, le=3600, description="An Upload whose next message does not come whole within is ended."
    )
    session_idle_seconds: float = Field(
        1800.0, ge=1, description="A session without calls, subscribers or work is closed after."
    )
    max_sessions: int = Field(4096, ge=1, description="Open sessions at most.")
    max_sessions_per_user: int = Field(64, ge=1, description="Open sessions of one user at most.")
    max_queued_jobs: int = Field(10_000, ge=1, description="Accepted jobs that have not ended, at most.")
    max_upload_bytes: int = Field(1 << 40, ge=1, description="Size of one upload at most, in bytes.")
    max_pixels: int = Field(8192 * 4320, ge=1, description="Pixels of a source's picture at most.")
    max_duration_seconds: int = Field(24 * 3600, ge=1, description="Duration of a source at most.")
    max_tracks: int = Field(64, ge=1, le=1000, description="Tracks of a source at most.")
    max_packets: int = Field(
        1 << 24, ge=1, description="Packets of a source at most, of all tracks together."
    )
    max_index_bytes: int = Field(
        256 << 20, ge=1, description="What of a source must be in memory before its media, at most."
    )
    max_metadata_bytes: int = Field(16 << 20, ge=1, description="Metadata of a source at most, in bytes.")
    max_attachment_bytes: int = Field(
        64 << 20, ge=1, description="Fonts and pictures attached to a source at most, in bytes."
    )
    keep_results_seconds: float = Field(
        7 * _DAY, ge=1, le=_CENTURY, description="Results are kept for, from their publication."
    )
    keep_removed_results_seconds: float = Field(
        3600.0,
        ge=1,
        le=_CENTURY,
        description="Results of a video that was removed for good can be fetched for.",
    )
    keep_trash_seconds: float = Field(
        30 * _DAY, ge=1, le=_CENTURY, description="A video stays in the trash for."
    )
    keep_checkpoints_seconds: float = Field(
        14 * _DAY,
        ge=1,
        le=_CENTURY,
        description="Finished segments of a video that nobody works on are kept for, from its last change.",
    )
    keep_events_seconds: float = Field(
        7 * _DAY,
        ge=1,
        le=_CENTURY,
        description="Events, request ids, ended jobs and closed sessions are kept for.",
    )
    keep_unfinished_uploads_seconds: float = Field(
        _DAY, ge=1, le=_CENTURY, description="An unfinished upload is kept for, from its last message."
    )
    keep_unused_uploads_seconds: float = Field(
        _DAY, ge=1, le=_CENTURY, description="A finished upload that no video refers to is kept for."
    )
    steady_clock_seconds: float = Field(
        600.0, ge=0, le=_CENTURY, description="Nothing expires before the clock has run without a jump for."
    )
    housekeeping_seconds: float = Field(
        15.0, ge=0.1, le=3600, description="Time between two looks for what has expired."
    )
    replica_lease_seconds: float = Field(
        20.0,
        ge=1,
        le=3600,
        description="Of several services on one PostgreSQL schema: from a sign of life on, a service's jobs are left to it for so long. "
        "So long they wait after a kill -9.",
    )
    replica_renew_seconds: float = Field(
        4.0, ge=0.1, le=3600, description="Time between two signs of life; at most a third of the lease."
    )
    replica_look_seconds: float = Field(
        4.0,
        ge=0.1,
        le=3600,
        description="Time between two looks for services that are gone; so much longer at most their jobs wait.",
    )
    user_quota_bytes: int = Field(
        0, ge=0, description="Bytes of uploads, segments and results that a user may keep; 0 is no quota."
    )
    disk_reserve_bytes: int | None = Field(
        None,
        ge=0,
        description="Bytes of the data directory's disk that are kept free: below, NORMAL work waits; 0 is none. "
        "Default: 1 GiB, or 5 % of a disk where that is less.",
    )
    max_temperature_celsius: float = Field(
        95.0, ge=0, le=150, description="Hottest sensor's temperature from which NORMAL work waits; 0 is off."
    )
    max_cpu_pressure_percent: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Share of time in which tasks wait for a core, from which NORMAL work waits; 0 is off. "
        "The service's own work counts.",
    )
    max_memory_pressure_percent: float = Field(
        0.0,
        ge=0,
        le=100,
        description="Share of time in which tasks wait for memory, from which NORMAL work waits; 0 is off.",
    )
    quiet_hours: Annotated[tuple[QuietPeriod, ...], NoDecode] = Field(
        (),
        description="HH:MM-HH:MM, local time, in which NORMAL work waits; past midnight too; may be given several times.",
    )
    max_connections: int = Field(
        0, ge=0, description="Connections at once; 0 is half of the files that may be open, at most 8192."
    )
    max_calls_per_second_per_user: float = Field(
        200.0, ge=0, description="Calls for one user a second, over time; 0 is no limit."
    )
    max_burst_calls_per_user: int = Field(2000, ge=1, description="Calls for one user at once beyond that.")
    max_calls_per_second_per_peer: float = Field(
        1000.0, ge=0, description="Calls from one address a second, over time; 0 is no limit."
    )
    max_burst_calls_per_peer: int = Field(
        5000, ge=1, description="Calls from one address at once beyond that."
    )
    shutdown_grace_seconds: float = Field(
        10.0, ge=0, description="Time for calls and jobs to end after SIGTERM or Ctrl-C."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much is logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto is console on a terminal, else JSON."
    )

    @field_validator("metrics_listen", mode="before")
    @classmethod
    def _parse_metrics_address(cls, value: Any) -> Any:  # noqa: ANN401 - whatever flag, environment or file gave
        text = f"127.0.0.1:{value}" if str(value).isdecimal() else value
        host, _, port = str(text).rpartition(":")
        if text and not (host and port.isdecimal() and int(port) <= MAX_PORT):
            raise ValueError(f"{text!r}: use PORT or HOST:PORT with a port up to {MAX_PORT}")
        return text

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        if value and value.partition("://")[0] not in DATABASE_SCHEMES:
            raise ValueError(
                "use postgresql://USER@HOST:PORT/DATABASE"
            )  # without the value, which may hold a password
        return value

    @field_validator("database_schema")
    @classmethod
    def _check_database_schema(cls, value: str) -> str:
        if not _SCHEMA_NAME.fullmatch(value):
            raise ValueError(f"{value!r}: use up to 40 of a-z, 0-9 and _, and neither a digit nor pg_ first")
        return value

    @field_validator("shared_root", mode="before")
    @classmethod
    def _parse_roots(cls, value: Any) -> Any:  # noqa: ANN401 - whatever flag, environment or file gave
        if isinstance(value, str):
            value = [part for part in value.split(os.pathsep) if part]
        if isinstance(value, (list, tuple)):
            return tuple(SharedRootSetting.parse(part) if isinstance(part, str) else part for part in value)
        return value

    @field_validator("fd_users", mode="before")
    @classmethod
    def _parse_users(cls, value: Any) -> Any:  # noqa: ANN401 - whatever flag, environment or file gave
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, (list, tuple)):
            return tuple(_system_user(part) if isinstance(part, str) else part for part in value)
        return value

    @field_validator("quiet_hours", mode="before")
    @classmethod
    def _parse_quiet_hours(cls, value: Any) -> Any:  # noqa: ANN401 - whatever flag, environment or file gave
        if isinstance(value, str):
            value = [part for part in value.split(",") if part.strip()]
        if isinstance(value, (list, tuple)):
            return tuple(QuietPeriod.parse(part) if isinstance(part, str) else part for part in value)
        return value

    @property
    def database_scheme(self) -> str:
        """Which kind of database keeps the rows; "" for SQLite's."""
        return self.database_url.partition("://")[0]

    @property
    def fd_socket_path(self) -> Path | None:
        """Where files are passed; None: nowhere."""
        if self.fd_socket == "off":
            return None
        return self.fd_socket or self.data_dir / FD_SOCKET_NAME

    @model_validator(mode="after")
    def _check_fd_socket(self) -> Settings:
        if self.fd_users and self.fd_socket in (None, "off"):
            raise ValueError(
                "fd_users needs an fd_socket in a directory that they may enter: the data directory is the service's own"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Settings:
        names = [root.name for root in self.shared_root]
        if len(names) != len(set(names)):
            raise ValueError("two shared roots have the same name")
        for root in self.shared_root:
            _check_apart(root, self.data_dir)
        if self.longest_gop_seconds < self.segment_seconds:
            raise ValueError("longest_gop_seconds is less than segment_seconds")
        if not self.listen.startswith("unix:") and not _is_address(self.listen):
            raise ValueError(
                f"listen {self.listen!r}: use HOST:PORT with a port up to {MAX_PORT}, or unix:PATH"
            )
        if self.health_listen and not _is_address(self.health_listen):
            raise ValueError(
                f"health_listen {self.health_listen!r}: use HOST:PORT with a port up to {MAX_PORT}"
            )
        self._check_access()
        return self

    @model_validator(mode="after")
    def _check_replica_times(self) -> Settings:
        if 3 * self.replica_renew_seconds > self.replica_lease_seconds:
            raise ValueError(
                "replica_renew_seconds is more than a third of replica_lease_seconds: one late renewal would end the lease"
            )
        return self

    @model_validator(mode="after")
    def _check_blobs(self) -> Settings:
        if not self.blob_url and (self.s3_endpoint or self.s3_region or self.s3_cache_bytes):
            raise ValueError("s3_endpoint, s3_region and s3_cache_bytes need a blob_url")
        return self

    def _check_access(self) -> None:
        """Refuse what would let the wrong callers in, or nobody."""
        asks_for_credentials = bool(self.token_file or self.jwks_file)
        for broken, problem in (
            (bool(self.tls_cert) != bool(self.tls_key), "tls_cert and tls_key go together"),
            (self.tls_client_ca and not self.tls_cert, "tls_client_ca needs tls_cert and tls_key"),
            (
                self.tls_client_ca and not asks_for_credentials,
                "tls_client_ca needs a token_file that says who has which certificate, or a jwks_file",
            ),
            (
                bool(self.jwks_file) != bool(self.jwt_issuer and self.jwt_audience),
                "jwks_file, jwt_issuer and jwt_audience go together",
            ),
            (
                self.insecure_listen_anywhere and (self.tls_cert or asks_for_credentials),
                "insecure_listen_anywhere lets every caller act for every user: it contradicts TLS and tokens",
            ),
        ):
            if broken:
                raise ValueError(problem)
        if self.insecure_listen_anywhere or _LOOPBACK.fullmatch(self.listen):
            return
        if not self.tls_cert:
            raise ValueError(
                f"{self.listen!r} is not on loopback: pass --tls-cert and --tls-key, "
                "or --insecure-listen-anywhere if the network is yours alone"
            )
        if not asks_for_credentials:
            raise ValueError(
                f"{self.listen!r} is not on loopback: pass --token-file or --jwks-file, "
                "so that callers can say who they are"
            )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files: one file is enough
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no secrets yet
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags (given to the constructor) over environment over the TOML file over defaults."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        config = os.environ.get(CONFIG_VARIABLE)
        if config:
            _check_readable(Path(config))
            sources.append(TomlConfigSettingsSource(settings_cls, Path(config)))
        return tuple(sources)
