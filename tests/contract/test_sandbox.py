"""What a worker can still do to the machine once it is confined: its work, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest

from contract import executor_harness as harness
from contract.executor_harness import facts, new_pool, submit
from contract.sandbox_attempts import ATTEMPTS
from videoprocess_server.execution import sandbox_limits
from videoprocess_server.execution.codec import Failed
from videoprocess_server.execution.executor import Slot, TaskFailedError, WorkerCrashedError
from videoprocess_server.execution.handlers import Emit, answer
from videoprocess_server.execution.sandbox import Confinement
from videoprocess_server.execution.sandbox_landlock import version
from videoprocess_server.model.tasks import MediaLimits, ProbeTask, Task, TaskResult

PROGRAM = Path(__file__).with_name("sandbox_attempts.py")
MEMORY_BYTES = 512 << 20
#: what a worker does all day
WORK = ("write_inside", "rename_inside", "import", "thread", "signal_itself", "stop_writing", "descriptor")
#: refused by seccomp and limits alone, on a kernel without Landlock
WITHOUT_LANDLOCK = (
    "socket", "socket_of_system", "socket_raw", "socket_netlink", "connect", "execute", "fork", "io_uring", "bpf",
    "unshare", "mount", "change_root", "memory", "many_files", "raise_limit", "trace_service",
)  # fmt: skip
#: of processor time, milliseconds that a worker's start may be later
MOST_MILLISECONDS = 10.0


def _tried(tmp_path: Path, landlock: str = "with") -> Mapping[str, str]:
    folder, canary = tmp_path / "inside", tmp_path / "canary"
    folder.mkdir()
    canary.write_text("secret")
    confinement = Confinement(writable=(str(folder),), memory_bytes=MEMORY_BYTES)
    arguments = [confinement.to_argument(), landlock, str(folder), str(canary), str(os.getpid())]
    with Path(__file__).open("rb") as source:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=source,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    results: Mapping[str, str] = json.loads(done.stdout)
    return results


@pytest.mark.skipif(version() < 6, reason="this kernel has no Landlock of version 6")
def test_a_worker_can_do_its_work_and_nothing_else(tmp_path: Path) -> None:
    tried = _tried(tmp_path)
    assert {name: tried[name] for name in WORK} == dict.fromkeys(WORK, "done")
    assert [name for name in ATTEMPTS if name not in WORK and tried[name] == "done"] == []
    assert (tmp_path / "canary").read_text() == "secret"
    assert [path.name for path in (tmp_path / "inside").iterdir()] == []


def test_without_landlock_the_other_layers_hold(tmp_path: Path) -> None:
    tried = _tried(tmp_path, "without")
    assert "landlock" not in tried["layers"]
    assert tried["dumpable"] == "0"
    assert {name: tried[name] for name in WORK} == dict.fromkeys(WORK, "done")
    assert [name for name in WITHOUT_LANDLOCK if tried[name] == "done"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_a_folder_of_another_user_stays_writable(tmp_path: Path) -> None:
    """As where a service that runs as root has a data directory that was made for another user."""
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    code = (
        "import sys; from pathlib import Path; from videoprocess_server.execution.sandbox import Confinement, confine;"
        "confine(Confinement(writable=(sys.argv[1],))); Path(sys.argv[1], 'made').write_text('x');"
        "print([line for line in open('/proc/self/status') if line.startswith('Cap')])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "CapEff:\\t0000000000000002" in done.stdout
    assert "CapBnd:\\t0000000000000000" in done.stdout


@pytest.mark.slow
def test_a_worker_is_confined_before_its_first_task_in_ten_milliseconds() -> None:
    code = (
        "import time; from videoprocess_server.execution.sandbox import Confinement, confine; began = time.process_time();"
        "confine(Confinement(memory_bytes=1 << 33)); print((time.process_time() - began) * 1000)"
    )
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(times) < MOST_MILLISECONDS


def test_threads_that_run_already_are_not_left_outside() -> None:
    code = (
        "import threading, time; from videoprocess_server.execution.sandbox import Confinement, confine;"
        "threading.Thread(target=time.sleep, args=(0.2,)).start(); confine(Confinement())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "would not be confined" in done.stderr


def test_every_kind_of_task_has_its_memory() -> None:
    assert set(sandbox_limits._OF_TASK) == set(get_args(Task))


def test_memory_grows_with_the_pictures() -> None:
    small, large = (
        sandbox_limits.memory_bytes(ProbeTask(limits=MediaLimits(max_pixels=pixels)))
        for pixels in (10**6, 10**7)
    )
    assert 1 << 30 < small < large < 4 << 30


def test_a_task_that_takes_more_memory_than_it_may_is_told_apart() -> None:
    def burst(_task: ProbeTask, _fd: int, _emit: Emit) -> TaskResult:
        raise MemoryError

    failed = answer({ProbeTask: burst}, ProbeTask(limits=MediaLimits()), -1, lambda _message: None)
    assert isinstance(failed, Failed)
    assert failed.reason == "OVER_LIMITS"


class TestWorkers:
    @pytest.fixture(autouse=True)
    def _workers_find_the_tests(self) -> Iterator[None]:
        with harness.workers_find_the_tests():
            yield
            harness.cancel_what_is_left()

    def test_the_pool_tells_what_confines_its_workers(self) -> None:
        with new_pool(1) as pool:
            submit(pool).result()
            assert pool.layers[:2] == ("limits", "privileges")
            assert (f"landlock {version()}" in pool.layers) == bool(version())

    def test_a_worker_has_no_capabilities(self) -> None:
        with new_pool(1) as pool:
            for slot in Slot:
                submit(pool, slot=slot).result()
            status = [Path(f"/proc/{pid}/status").read_text() for pid in pool.worker_pids()]
            assert all(
                "CapEff:\t0000000000000000" in text and "CapPrm:\t0000000000000000" in text for text in status
            )
            assert all("Seccomp:\t2" in text for text in status) == ("seccomp" in pool.layers)

    def test_the_worker_that_probes_may_write_nothing(self, tmp_path: Path) -> None:
        """Its confinement is its own."""
        with new_pool(1, confinement=Confinement(writable=(str(tmp_path),))) as pool:
            general, probing = (
                facts(submit(pool, f"touch:{tmp_path / slot.value}", slot=slot))
                for slot in (Slot.GENERAL, Slot.PROBE)
            )
        assert (general, probing) == (["written"], ["EACCES" if version() else "written"])

    @pytest.mark.slow
    def test_processor_time_without_progress_ends(self) -> None:
        with new_pool(1, confinement=Confinement(cpu_seconds=1)) as pool:
            began = time.monotonic()
            with pytest.raises(WorkerCrashedError) as caught:
                submit(pool, "spin:60").result()
            assert caught.value.exit_code == -24  # SIGXCPU
            assert time.monotonic() - began < 20
            assert submit(pool).result()

    def test_memory_beyond_the_tasks_is_refused(self, tmp_path: Path) -> None:
        with (
            new_pool(1, confinement=Confinement(memory_bytes=300 << 20)) as pool,
            pytest.raises(TaskFailedError) as caught,
        ):
            submit(pool, f"take:{1 << 30}").result()
        assert caught.value.reason == "INTERNAL"
