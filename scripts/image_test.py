"""Builds the image, runs it as Kubernetes would, sends a clip through it, and stops it.

    make image-test

Needs root on Debian or Ubuntu; no Docker engine: buildah builds, podman and runc run. What lacks of them is installed. The base
image is pulled, or made by debootstrap where no registry answers. Exit code 0: all held; 1: something did not, and is
named; 2: this machine cannot try it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.base import ensure_base
from images.container import DATA, SECRETS, START_SECONDS, USER_ID, Container, owned_folder
from images.host_pip import secrets
from images.store import BUILD_SECONDS, PACKAGES, Store

from credentials import LOCALHOST, Authority, identity, new_token, replace_file
from videoprocess_server.execution import sandbox_landlock
from videoprocess_server.rpc.health_probe import SERVING, check

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
IMAGE = "localhost/videoprocess:image-test"
CLIP = ROOT / "tests/clips/flower_540p_5s.mp4"
MOST_BYTES = 350_000_000
USER = 100
JOB_SECONDS = 300.0
CANNOT_TRY = 2


@dataclass
class Findings:
    """What was looked at, and whether it held."""

    failed: int = 0

    def expect(self, what: str, holds: bool, found: object = "") -> None:
        """Print a line, and count what does not hold."""
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}{f': {found}' if found != '' else ''}", flush=True)


def main(options: argparse.Namespace) -> int:
    """Build and try the image; return an exit code."""
    if problem := _missing():
        sys.stderr.write(f"image-test: {problem}\n")
        return CANNOT_TRY
    folder: Path = options.work.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    store, findings = Store(folder / "store"), Findings()
    store.folder.mkdir(exist_ok=True)
    begin = time.monotonic()
    print(f"base image: {ensure_base(store)}, {time.monotonic() - begin:.0f} s", flush=True)
    begin = time.monotonic()
    _build(store, folder)
    print(f"build: {time.monotonic() - begin:.0f} s", flush=True)
    _look_at(store, findings)
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir()
    begin = time.monotonic()
    _run_without_credentials(store, trial, findings)
    _run(store, trial, findings)
    print(f"trial: {time.monotonic() - begin:.0f} s, {findings.failed} failed")
    return 1 if findings.failed else 0


def _missing() -> str:
    """What this machine lacks, after an attempt to install it; "" for nothing."""
    if os.geteuid() != 0:
        return "needs root: it makes a base image and runs containers"
    missing = [package for package in PACKAGES if shutil.which(package) is None]
    if missing and shutil.which("apt-get"):
        for command in (("update",), ("install", "--yes", "--no-install-recommends", *missing)):
            subprocess.run(["apt-get", "--quiet", *command], check=False, stdout=subprocess.DEVNULL)
    missing = [package for package in PACKAGES if shutil.which(package) is None]
    return f"needs {', '.join(missing)}: install them first" if missing else ""


def _build(store: Store, folder: Path) -> None:
    revision = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()
    log = folder / "build.log"
    command = store.build_command(
        *("--pull-never", "--isolation", "chroot", "--format", "docker", "--layers", "--tag", IMAGE),
        *("--build-arg", f"REVISION={revision or 'unknown'}", *secrets(folder), str(ROOT)),
    )
    with log.open("w") as file:
        built = subprocess.run(command, stdout=file, stderr=file, timeout=BUILD_SECONDS, check=False)
    if built.returncode != 0:
        print(log.read_text()[-4000:])
        sys.exit("the image cannot be built")


def _look_at(store: Store, findings: Findings) -> None:
    described = store.describe(IMAGE)
    size, config = described["Size"], described["Config"]
    findings.expect(f"size at most {MOST_BYTES / 1e6:.0f} MB", size <= MOST_BYTES, f"{size / 1e6:.0f} MB")
    findings.expect(
        "user is a number, and not root", config["User"] == f"{USER_ID}:{USER_ID}", config["User"]
    )
    findings.expect("stops by SIGTERM", config["StopSignal"] == "SIGTERM")
    findings.expect("has an init", config["Entrypoint"][0] == "tini", config["Entrypoint"])
    labels = sorted(
        name.rpartition(".")[2] for name in config["Labels"] if name.startswith("org.opencontainers")
    )
    findings.expect("labels", {"title", "version", "revision", "licenses"} <= set(labels), ", ".join(labels))


def _run_without_credentials(store: Store, trial: Path, findings: Findings) -> None:
    """Nobody is let in by default."""
    secrets_folder, data = trial / "no-secrets", owned_folder(trial / "no-data")
    secrets_folder.mkdir()
    with Container(store, IMAGE, "videoprocess-refusing", data, secrets_folder) as container:
        container.start({}, ())
        code = container.wait()
        told = container.log_text().strip()
        findings.expect("without credentials it refuses to start", code == 2 and "--tls-cert" in told, told)


def _run(store: Store, trial: Path, findings: Findings) -> None:
    """Start, one job, stop, and start once more with the same data."""
    authority = Authority("image test's authority")
    secrets_folder, token_file = _write_credentials(trial, authority)
    data, result = owned_folder(trial / "data"), trial / "result.mp4"
    port, health_port = _free_ports()
    environment = {
        "VIDEOPROCESS_LISTEN": f"0.0.0.0:{port}",
        "VIDEOPROCESS_HEALTH_LISTEN": f"0.0.0.0:{health_port}",
    }
    flags = (
        *("--tls-cert", f"{SECRETS}/tls.crt", "--tls-key", f"{SECRETS}/tls.key"),
        *("--token-file", f"{SECRETS}/tokens.toml"),
    )
    call = (
        *("--target", f"grpcs://localhost:{port}", "--user", str(USER), "--token-file", str(token_file)),
        *("--ca", str(secrets_folder / "ca.crt")),
    )
    with Container(store, IMAGE, "videoprocess-serving", data, secrets_folder) as container:
        seconds = _start(container, environment, flags)
        findings.expect("serves", True, f"{seconds:.1f} s from podman run to SERVING")
        _look_inside(store, container, findings)
        begin = time.monotonic()
        made = _client(trial, "enhance", str(CLIP), "-o", str(result), "--keep", *call)
        findings.expect("a clip goes through", bool(made), f"{time.monotonic() - begin:.1f} s")
        findings.expect("the same bytes as outside", _digest(result) == _digest(_made_outside(trial)))
        code, seconds = container.stop()
        findings.expect("SIGTERM ends it with 0", code == 0, f"{code}, {seconds:.1f} s")
    with Container(store, IMAGE, "videoprocess-serving", data, secrets_folder) as container:
        _start(container, environment, flags)
        again = trial / "again.mp4"
        fetched = _client(trial, "fetch", made.get("video_id", "none"), "-o", str(again), *call)
        findings.expect("its data outlives it", bool(fetched) and _digest(again) == _digest(result))


def _start(container: Container, environment: Mapping[str, str], flags: tuple[str, ...]) -> float:
    begin = time.monotonic()
    container.start(environment, flags)
    target = environment["VIDEOPROCESS_HEALTH_LISTEN"].replace("0.0.0.0", "127.0.0.1")
    while check(target, 1.0) != SERVING:
        if time.monotonic() - begin > START_SECONDS:
            raise TimeoutError(f"not SERVING after {START_SECONDS:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - begin


def _look_inside(store: Store, container: Container, findings: Findings) -> None:
    _, *health_command = store.describe(IMAGE)["Healthcheck"]["Test"]
    asked = container.run_inside(*health_command)
    findings.expect("HEALTHCHECK", asked == (0, SERVING), asked)
    code, _ = container.run_inside(*health_command, "--target", "127.0.0.1:1")
    findings.expect("HEALTHCHECK of nobody", code == 1, code)
    code, told = container.run_inside("touch", "/opt/videoprocess/x")
    findings.expect("its file system is read-only", code != 0 and "Read-only" in told)
    code, told = container.run_inside("cat", "/proc/1/comm")
    findings.expect("process 1 is the init", told == "tini", told)
    code, told = container.run_inside("cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    findings.expect("no root", facts["Uid"].split() == [str(USER_ID)] * 4, facts["Uid"].split())
    findings.expect("no capability", int(facts["CapBnd"], 16) == 0)
    findings.expect("under the runtime's own seccomp filter", facts["Seccomp"] == "2")
    code, told = container.run_inside("stat", "--format", "%U %a", f"{DATA}/data")
    findings.expect("its data is its own", told == "videoprocess 700", told)
    sandbox = next(line for line in container.log_lines() if line["event"] == "worker_sandbox")
    missing = [] if sandbox_landlock.version() else ["landlock"]
    findings.expect(
        "workers are confined as outside", sandbox["missing"] == missing, ", ".join(sandbox["layers"])
    )


def _write_credentials(trial: Path, authority: Authority) -> tuple[Path, Path]:
    """Write what a Secret holds, as Kubernetes mounts it: root's, and readable for the group of the container."""
    folder, token = trial / "secrets", new_token()
    folder.mkdir()
    authority.issue("image test", LOCALHOST).write(folder, "tls")
    replace_file(folder / "tokens.toml", identity("image-test", [USER], [token]))
    for file in folder.iterdir():
        os.chown(file, 0, USER_ID)
        file.chmod(0o440)
    replace_file(folder / "ca.crt", authority.pem, 0o444)
    return folder, replace_file(trial / "token", token)


def _free_ports() -> Iterator[int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (first, second)]
    yield from ports


def _client(trial: Path, *arguments: str) -> dict[str, Any]:
    """Run the client's command as a user outside would; returns the object it prints."""
    environment = {**os.environ, "XDG_STATE_HOME": str(trial / "state")}
    with (trial / "client.log").open("a") as log:
        done = subprocess.run(
            [str(BIN / "videoprocess"), *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            timeout=JOB_SECONDS,
            check=False,
        )
        log.write(done.stdout.decode())
    told: dict[str, Any] = json.loads(done.stdout)
    return told if done.returncode == 0 else {}


def _made_outside(trial: Path) -> Path:
    """What the service makes of the same clip without a container."""
    outside = trial / "outside.mp4"
    command = [sys.executable, str(ROOT / "scripts/main_job.py"), str(CLIP), str(outside)]
    subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=JOB_SECONDS, check=True
    )
    return outside


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build/image-test", help="keeps images and logs")
    sys.exit(main(parser.parse_args()))
