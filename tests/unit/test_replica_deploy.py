"""Several replicas, by compose and on Kubernetes: what the files say fits the service and each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from videoprocess_server.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.scale.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = ("replica-a", "replica-b")
NODES = ("ray-head", "ray-worker")
KUBERNETES = ROOT / "deploy/kubernetes-replicas"
DEPLOYMENT = yaml.safe_load((KUBERNETES / "deployment.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
CONFIG = tomllib.loads(yaml.safe_load((KUBERNETES / "configmap.yaml").read_text())["data"]["service.toml"])
IMAGE_LISTEN = "0.0.0.0:50051"


def _settings(values: dict[str, str]) -> Settings:
    """What variables say, as the service reads them."""
    named = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in values.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    assert set(named) <= set(Settings.model_fields)
    return Settings(**{"listen": IMAGE_LISTEN, **named})  # type: ignore[arg-type]


@pytest.fixture(name="replicas")
def _replicas() -> list[Settings]:
    return [_settings(SERVICES[name]["environment"]) for name in REPLICAS]


def test_replicas_share_rows_blobs_and_cluster_and_differ_in_their_namespace(
    replicas: list[Settings],
) -> None:
    first, second = (each.model_dump() for each in replicas)
    assert {name for name in first if first[name] != second[name]} == {"ray_namespace"}


def test_what_replicas_need_are_services_of_the_file(replicas: list[Settings]) -> None:
    settings = replicas[0]
    hosts = [urlsplit(url).hostname for url in (settings.database_url, settings.s3_endpoint)]
    assert hosts == ["database", "s3"]
    assert settings.ray_address == "ray-head:6379"
    assert "--port=6379" in SERVICES["ray-head"]["command"]
    assert "--address=ray-head:6379" in SERVICES["ray-worker"]["command"]
    (script,) = [word for word in SERVICES["s3"]["entrypoint"] if "versitygw" in word]
    assert f"--port :{urlsplit(settings.s3_endpoint).port} " in script
    assert f"/objects/{urlsplit(settings.blob_url).hostname} " in script
    user = urlsplit(settings.database_url).username
    assert user == SERVICES["database"]["environment"]["POSTGRES_USER"]
    assert urlsplit(settings.database_url).path == f"/{SERVICES['database']['environment']['POSTGRES_DB']}"


@pytest.mark.parametrize(("replica", "node"), list(zip(REPLICAS, NODES, strict=True)))
def test_a_replica_stands_beside_a_node(replica: str, node: str) -> None:
    service = SERVICES[replica]
    assert [service[name] for name in ("network_mode", "pid", "ipc")] == [f"service:{node}"] * 3
    assert SERVICES[node]["ipc"] == "shareable"
    assert f"{node}:/tmp" in service["volumes"]
    assert f"{node}:/tmp" in SERVICES[node]["volumes"]
    (port,) = SERVICES[node]["ports"]
    assert port.endswith(":50051")
    assert {"ray-worker", "database", "s3"} == set(service["depends_on"])
    size, store = SERVICES[node]["shm_size"], "--object-store-memory="
    (object_store,) = [word.removeprefix(store) for word in SERVICES[node]["command"] if store in word]
    assert int(object_store) < int(size.removesuffix("m")) << 20


def test_every_volume_and_secret_is_there() -> None:
    for service in SERVICES.values():
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"])
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    for name in REPLICAS:
        environment = SERVICES[name]["environment"]
        read = {Path(value) for value in environment.values() if value.startswith("/run/secrets/")}
        assert {Path("/run/secrets") / secret for secret in SERVICES[name]["secrets"]} == read


def test_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in (*REPLICAS, *NODES):
        assert SERVICES[name]["image"] == f"videoprocess-ray:{project['version']}"
        assert SERVICES[name]["build"]["args"]["RAY"] == "1"
    tried = re.search(r"versitygw@(v\S+)", (ROOT / "scripts" / "s3_server.sh").read_text())
    assert tried is not None
    assert SERVICES["s3"]["image"] == f"versity/versitygw:{tried[1]}"


def test_the_image_has_what_a_replica_needs() -> None:
    for requirements in ("service", "service-stabilise", "service-ray"):
        locked = (ROOT / "requirements" / f"{requirements}.txt").read_text()
        assert all(re.search(f"^{name}==", locked, re.MULTILINE) for name in ("psycopg-binary", "obstore"))


def test_a_pod_keeps_nothing_that_another_needs() -> None:
    assert DEPLOYMENT["kind"] == "Deployment"
    assert DEPLOYMENT["spec"]["replicas"] >= 2
    assert not [volume for volume in POD["volumes"] if "persistentVolumeClaim" in volume]
    (data,) = [volume for volume in POD["volumes"] if volume["name"] == "data"]
    gibibytes = int(data["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert CONFIG["s3_cache_bytes"] < gibibytes << 30


def test_the_pods_settings_are_settings_and_their_files_are_mounted() -> None:
    settings = Settings(listen=IMAGE_LISTEN, **CONFIG)
    assert settings.database_url
    assert settings.blob_url
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in POD["volumes"]}
    files = [CONFIG[name] for name in ("tls_cert", "tls_key", "token_file")]
    files += [entry["value"] for entry in CONTAINER["env"] if entry["value"].startswith("/")]
    assert {str(Path(file).parent) for file in files} <= set(mounts)


def test_clients_are_told_every_pod() -> None:
    service = yaml.safe_load((KUBERNETES / "service.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None"
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    budget = yaml.safe_load((KUBERNETES / "poddisruptionbudget.yaml").read_text())
    selectors = [
        service["spec"]["selector"],
        budget["spec"]["selector"]["matchLabels"],
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
    ]
    assert selectors == [labels] * 3
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert {*kustomization["resources"], "kustomization.yaml"} == {
        file.name for file in KUBERNETES.glob("*.yaml")
    }


def test_a_replicas_pod_is_otherwise_that_of_a_service_that_is_alone() -> None:
    alone = yaml.safe_load((ROOT / "deploy/kubernetes/statefulset.yaml").read_text())
    own = alone["spec"]["template"]["spec"]
    same = ("securityContext", "terminationGracePeriodSeconds", "automountServiceAccountToken")
    assert [POD[name] for name in same] == [own[name] for name in same]
    assert CONTAINER["securityContext"] == own["containers"][0]["securityContext"]
    assert CONTAINER["ports"] == own["containers"][0]["ports"]
