"""The manifests for KubeRay: what they say fits the service, Ray's version and each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from videoprocess_server.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
CLUSTER = yaml.safe_load((ROOT / "deploy/kuberay/raycluster.yaml").read_text())
HEAD = CLUSTER["spec"]["headGroupSpec"]
(WORKERS,) = CLUSTER["spec"]["workerGroupSpecs"]
PODS: list[dict[str, Any]] = [group["template"]["spec"] for group in (HEAD, WORKERS)]


def _container(name: str) -> dict[str, Any]:
    (found,) = [container for pod in PODS for container in pod["containers"] if container["name"] == name]
    return found


def test_the_cluster_is_of_the_version_that_is_locked() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [f"ray=={CLUSTER['spec']['rayVersion']}"] == extras["ray"]
    locked = re.search(r"^ray==(\S+)", (ROOT / "requirements/scale.txt").read_text(), re.MULTILINE)
    assert locked is not None
    assert CLUSTER["spec"]["rayVersion"] == locked[1]


def test_every_variable_is_a_setting() -> None:
    names = {
        entry["name"].removeprefix(ENVIRONMENT_PREFIX).lower()
        for entry in _container("videoprocess")["env"]
        if entry["name"].startswith(ENVIRONMENT_PREFIX)
    }
    assert names - {"config"} <= set(Settings.model_fields)
    assert {"executor", "ray_address"} <= names


def test_the_head_takes_no_tasks_and_is_where_the_service_looks_for_it() -> None:
    assert "0" == HEAD["rayStartParams"]["num-cpus"]
    (address,) = [
        entry["value"]
        for entry in _container("videoprocess")["env"]
        if entry["name"] == "VIDEOPROCESS_RAY_ADDRESS"
    ]
    ports = [port["containerPort"] for port in _container("ray-head")["ports"]]
    assert [int(address.rpartition(":")[2])] == ports


def test_the_gateway_sees_the_heads_sockets_and_shared_memory() -> None:
    mounts = [
        {(mount["name"], mount["mountPath"]) for mount in _container(name)["volumeMounts"]}
        for name in ("ray-head", "videoprocess")
    ]
    assert {("ray", "/tmp"), ("shared-memory", "/dev/shm")} == mounts[0] & mounts[1]
    assert PODS[0]["shareProcessNamespace"]


def test_every_mount_is_a_volume_and_the_object_store_fits_shared_memory() -> None:
    for pod, group in zip(PODS, (HEAD, WORKERS), strict=True):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        shared_mebibytes = int(volumes["shared-memory"]["emptyDir"]["sizeLimit"].removesuffix("Mi"))
        assert int(group["rayStartParams"]["object-store-memory"]) < shared_mebibytes << 20


def test_copies_fit_the_disk_of_a_worker() -> None:
    (volume,) = [volume for volume in PODS[1]["volumes"] if volume["name"] == "ray"]
    gibibytes = int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert Settings.model_fields["ray_cache_bytes"].default < gibibytes << 30


def test_workers_are_as_nice_as_ray_itself() -> None:
    for name in ("ray-head", "ray-worker"):
        assert {"name": "RAY_worker_niceness", "value": "0"} in _container(name)["env"]


def test_nothing_runs_as_root() -> None:
    for pod in PODS:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_what_the_service_pod_mounts_is_there_or_comes_with_the_other_manifests() -> None:
    claim = yaml.safe_load((ROOT / "deploy/kuberay/claim.yaml").read_text())
    other = yaml.safe_load((ROOT / "deploy/kubernetes/statefulset.yaml").read_text())
    theirs = {volume["name"]: volume for volume in other["spec"]["template"]["spec"]["volumes"]}
    ours = {volume["name"]: volume for volume in PODS[0]["volumes"]}
    assert claim["metadata"]["name"] == ours["data"]["persistentVolumeClaim"]["claimName"]
    for name in ("config", "tls", "tokens"):
        assert theirs[name] == ours[name]


def test_the_kustomization_lists_every_manifest() -> None:
    folder = ROOT / "deploy/kuberay"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in folder.iterdir()} == {*listed, "kustomization.yaml"}
