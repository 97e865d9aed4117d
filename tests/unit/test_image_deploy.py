"""The image, the compose file and the Kubernetes manifests: what they say fits the service and each other."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from videoprocess_server.machine.capacity import memory_budget_bytes
from videoprocess_server.model.worker_costs import estimate_worker_bytes
from videoprocess_server.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
KUBERNETES = ROOT / "deploy/kubernetes"
STATEFUL_SET = yaml.safe_load((KUBERNETES / "statefulset.yaml").read_text())
POD = STATEFUL_SET["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
CONFIG_FILE = yaml.safe_load((KUBERNETES / "configmap.yaml").read_text())["data"]["service.toml"]
SERVICE = COMPOSE["services"]["videoprocess"]

GIBIBYTE = 1 << 30
FULL_HD_PIXELS = 1920 * 1080
#: of NIGHT, the mode that denoises most
NEIGHBOURS = 6
#: an open segment of 1080p on a core, not denoised: docs/operations.md, "What a frame costs"
SEGMENT_SECONDS = 4.0 * 30 * 0.18
#: the process ends within twice its grace and what else is closed, docs/operations.md: so much
SPARE_SECONDS = 30


def _image_environment() -> dict[str, str]:
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    assert block is not None
    return dict(word.split("=", 1) for word in shlex.split(block[1].replace("\\\n", " ")))


def _variables(environment: dict[str, str]) -> dict[str, str]:
    """Settings that environment variables name."""
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != f"{ENVIRONMENT_PREFIX}CONFIG"
    }


def _pod_environment() -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in CONTAINER["env"]}


GIVEN = {
    "image": _variables(_image_environment()),
    "compose": _variables(_image_environment() | SERVICE["environment"]),
    "kubernetes": tomllib.loads(CONFIG_FILE) | _variables(_image_environment() | _pod_environment()),
}


@pytest.mark.parametrize("place", GIVEN)
def test_what_is_set_are_settings(place: str) -> None:
    # of a release to come: the metrics' address
    assert [] == [name for name in GIVEN[place] if name not in Settings.model_fields]


@pytest.mark.parametrize("place", ["compose", "kubernetes"])
def test_nobody_is_let_in_without_tls_and_a_token(place: str) -> None:
    settings = Settings(**_known(GIVEN[place]))  # it refuses this address without
    assert settings.listen.startswith("0.0.0.0:")
    assert settings.tls_cert is not None
    assert settings.token_file is not None
    assert not settings.insecure_listen_anywhere


def test_the_image_alone_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="--tls-cert"):
        Settings(**_known(GIVEN["image"]))


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in Settings.model_fields}


def test_ports_are_those_the_service_listens_on() -> None:
    listens = [GIVEN["kubernetes"][name] for name in ("listen", "health_listen", "metrics_listen")]
    ports = [int(address.rpartition(":")[2]) for address in listens]
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert exposed is not None
    assert ports == [int(port) for port in exposed[1].split()]
    assert ports == [port["containerPort"] for port in CONTAINER["ports"]]
    probes = [CONTAINER[f"{name}Probe"]["grpc"]["port"] for name in ("startup", "readiness", "liveness")]
    assert [ports[1]] * 3 == probes
    names = {port["name"] for port in CONTAINER["ports"]}
    service = yaml.safe_load((KUBERNETES / "service.yaml").read_text())
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


@pytest.mark.parametrize(
    ("place", "allowed_seconds"),
    [
        ("compose", float(str(SERVICE["stop_grace_period"]).removesuffix("s"))),
        ("kubernetes", float(POD["terminationGracePeriodSeconds"])),
    ],
)
def test_a_stop_leaves_time_for_a_checkpoint(place: str, allowed_seconds: float) -> None:
    grace_seconds = Settings(**_known(GIVEN[place])).shutdown_grace_seconds
    assert grace_seconds >= SEGMENT_SECONDS
    assert allowed_seconds >= 2 * grace_seconds + SPARE_SECONDS


@pytest.mark.parametrize(
    ("cores", "memory_bytes"),
    [
        (float(SERVICE["cpus"]), int(SERVICE["mem_limit"].removesuffix("g")) * GIBIBYTE),
        (
            float(CONTAINER["resources"]["limits"]["cpu"]),
            int(CONTAINER["resources"]["limits"]["memory"].removesuffix("Gi")) * GIBIBYTE,
        ),
    ],
    ids=["compose", "kubernetes"],
)
def test_the_memory_lets_all_cores_work_at_1080p(cores: float, memory_bytes: int, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: {memory_bytes // 1024} kB\n")
    worker_bytes = estimate_worker_bytes(FULL_HD_PIXELS, 8, neighbours=NEIGHBOURS)
    assert cores * worker_bytes <= memory_budget_bytes(tmp_path)


def test_workers_and_memory_follow_the_limits() -> None:
    """Who changes a limit has nothing else to change."""
    for given in GIVEN.values():
        assert not {"workers", "memory_budget_bytes"} & set(given)
    assert CONTAINER["resources"]["requests"] == CONTAINER["resources"]["limits"]


def test_the_pod_may_do_nothing_that_it_does_not_need() -> None:
    security = POD["securityContext"] | CONTAINER["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert {"drop": ["ALL"]} == security["capabilities"]
    assert {"type": "RuntimeDefault"} == security["seccompProfile"]
    assert not POD["automountServiceAccountToken"]
    assert SERVICE["read_only"]
    assert ["ALL"] == SERVICE["cap_drop"]
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    assert (int(user[1]), int(user[2])) == (security["runAsUser"], security["fsGroup"])


def test_what_must_be_written_is_a_volume() -> None:
    mounts = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
    data_dir = Path(GIVEN["image"]["data_dir"])
    assert str(data_dir.parent) in mounts
    assert f"VOLUME {data_dir.parent}\n" in DOCKERFILE
    assert f"data:{data_dir.parent}" in SERVICE["volumes"]
    assert {str(data_dir.parent), "/tmp"} == {
        path for path, mount in mounts.items() if not mount.get("readOnly")
    }


def test_files_that_settings_name_are_mounted() -> None:
    mounts = [mount["mountPath"] for mount in CONTAINER["volumeMounts"]]
    names = ("tls_cert", "tls_key", "token_file")
    assert all(str(Path(GIVEN["kubernetes"][name]).parent) in mounts for name in names)
    secrets = {f"/run/secrets/{name}" for name in SERVICE["secrets"]}
    assert {GIVEN["compose"][name] for name in names} == secrets
    assert str(Path(_pod_environment()[f"{ENVIRONMENT_PREFIX}CONFIG"]).parent) in mounts
    for volume in POD["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440  # the service takes no key that others may read


def test_names_of_the_manifests_meet() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert {*kustomization["resources"], "kustomization.yaml"} == {
        file.name for file in KUBERNETES.glob("*.yaml")
    }
    labels = STATEFUL_SET["spec"]["template"]["metadata"]["labels"]
    selectors = [
        STATEFUL_SET["spec"]["selector"]["matchLabels"],
        yaml.safe_load((KUBERNETES / "service.yaml").read_text())["spec"]["selector"],
        yaml.safe_load((KUBERNETES / "poddisruptionbudget.yaml").read_text())["spec"]["selector"][
            "matchLabels"
        ],
    ]
    assert [labels] * 3 == selectors


def test_all_of_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert f"ARG VERSION={version}\n" in DOCKERFILE
    assert f"videoprocess:{version}" == SERVICE["image"]
    assert version == kustomization["images"][0]["newTag"]
