"""The Kubernetes manifests: built-in kinds against the API's schemas, the RayCluster against KubeRay v1.6.2's fields.

The fields are those of the API reference of ray.io/v1 in Ray's documentation (KubeRay v1.6.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml

from ampsweep.bundled import ATLAS_MODEL
from ampsweep.cli.server.engine_specs import served_engines
from ampsweep.cli.server.settings import PREFIX, Settings
from ampsweep.errors import InvalidRequest
from tests.deploy.commands import parse
from tests.deploy.dockerfile import ROOT
from worker.resources.gpus import require_own_gpus

FOLDER = ROOT / "deploy" / "kuberay"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for name in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
]
CLUSTER = next(manifest for manifest in MANIFESTS if manifest["kind"] == "RayCluster")
SERVER = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment")
PODS = {
    "head": CLUSTER["spec"]["headGroupSpec"]["template"],
    "worker": CLUSTER["spec"]["workerGroupSpecs"][0]["template"],
    "server": SERVER["spec"]["template"],
}
KUBERNETES = "1.33"

CLUSTER_FIELDS = {
    "authOptions",
    "autoscalerOptions",
    "enableInTreeAutoscaling",
    "gcsFaultToleranceOptions",
    "headGroupSpec",
    "headServiceAnnotations",
    "managedBy",
    "rayVersion",
    "suspend",
    "upgradeStrategy",
    "workerGroupSpecs",
}
AUTOSCALER_FIELDS = {
    "env",
    "envFrom",
    "idleTimeoutSeconds",
    "image",
    "imagePullPolicy",
    "resources",
    "securityContext",
    "upscalingMode",
    "version",
    "volumeMounts",
}
HEAD_FIELDS = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKER_FIELDS = {
    "groupName",
    "idleTimeoutSeconds",
    "labels",
    "maxReplicas",
    "minReplicas",
    "numOfHosts",
    "rayStartParams",
    "replicas",
    "resources",
    "scaleStrategy",
    "suspend",
    "template",
}


def named(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", [one for one in MANIFESTS if one is not CLUSTER], ids=named)
def test_a_built_in_kind_fits_its_schema(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("pod", ["head", "worker"])
def test_a_ray_pod_fits_the_schema_of_pods(pod: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": PODS[pod]["spec"]}
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_ray_cluster_has_only_fields_that_kuberay_knows() -> None:
    assert CLUSTER.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert CLUSTER["apiVersion"] == "ray.io/v1"
    spec = CLUSTER["spec"]
    assert spec.keys() <= CLUSTER_FIELDS
    assert spec["authOptions"].keys() <= {"mode", "secretName", "enableK8sTokenAuth"}
    assert spec["authOptions"]["mode"] == "token"
    assert spec["autoscalerOptions"].keys() <= AUTOSCALER_FIELDS
    assert spec["autoscalerOptions"]["upscalingMode"] in {"Default", "Aggressive", "Conservative"}
    assert spec["autoscalerOptions"]["version"] in {"v1", "v2"}
    assert spec["headGroupSpec"].keys() <= HEAD_FIELDS
    for group in spec["workerGroupSpecs"]:
        assert group.keys() <= WORKER_FIELDS
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    parameters = [spec["headGroupSpec"]["rayStartParams"], *(one["rayStartParams"] for one in spec["workerGroupSpecs"])]
    for parameter_set in parameters:
        assert all(isinstance(value, str) for value in parameter_set.values())
        parse(["ray", "start", "--head", *(f"--{name}={value}" for name, value in parameter_set.items())])


def test_the_ray_of_the_cluster_is_the_one_installed() -> None:
    assert CLUSTER["spec"]["rayVersion"] == ray.__version__
    locked = (ROOT / "deploy" / "locks" / "gpu.txt").read_text(encoding="utf-8").splitlines()
    assert f"ray=={ray.__version__}" in locked


def test_the_dashboard_is_on_the_loopback_interface_and_the_head_runs_nothing() -> None:
    start_params = CLUSTER["spec"]["headGroupSpec"]["rayStartParams"]
    assert start_params["dashboard-host"] == "127.0.0.1"
    assert (start_params["num-cpus"], start_params["num-gpus"]) == ("0", "0")


@pytest.mark.parametrize("pod", PODS)
def test_pods_run_without_root(pod: str) -> None:
    spec = PODS[pod]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    for container in spec["containers"]:
        assert container["image"] == "ampsweep"
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert {"requests", "limits"} <= container["resources"].keys()


def test_server_and_workers_see_the_same_folders_and_settings() -> None:
    server, worker = (PODS[name]["spec"]["containers"][0] for name in ("server", "worker"))
    assert server["envFrom"] == worker["envFrom"]
    assert [mount for mount in server["volumeMounts"] if mount["name"] == "models"] == [
        mount for mount in worker["volumeMounts"] if mount["name"] == "models"
    ]


def test_commands_and_settings_are_those_that_are_there() -> None:
    container = PODS["server"]["spec"]["containers"][0]
    assert parse([*container["command"], *container["args"]]) == 2
    settings = next(one for one in MANIFESTS if one["metadata"]["name"] == "ampsweep-settings")["data"]
    setting_names = {*settings, *(one["name"] for one in container["env"])}
    ours = {name.removeprefix(PREFIX).lower() for name in setting_names if name.startswith(PREFIX)}
    assert ours <= Settings.model_fields.keys()
    assert f"--ray-address={CLUSTER['metadata']['name']}-head-svc:6379" in container["args"][0]


def test_what_pods_mount_and_policies_select_is_there_or_told_in_the_docs() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    names = {(one["kind"], one["metadata"]["name"]) for one in MANIFESTS}
    for pod in PODS.values():
        for volume in pod["spec"].get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
            if "secret" in volume:
                assert f"secret generic {volume['secret']['secretName']}" in page
    for secret in (CLUSTER["spec"]["authOptions"]["secretName"], "ampsweep-database", "ampsweep-storage"):
        assert f"secret generic {secret}" in page
    labels = SERVER["spec"]["template"]["metadata"]["labels"]
    service = next(one for one in MANIFESTS if one["kind"] == "Service")
    assert service["spec"]["selector"] == SERVER["spec"]["selector"]["matchLabels"] == labels


def test_no_secret_stands_in_the_manifests() -> None:
    assert not [one for one in MANIFESTS if one["kind"] == "Secret"]


def test_every_file_of_the_folder_is_part_of_it() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


def test_no_engine_of_the_example_shares_a_gpu(tmp_path: Path) -> None:
    settings, models = (manifest["data"] for manifest in MANIFESTS if manifest["kind"] == "ConfigMap")
    large = yaml.safe_load(models["models.yaml"])["large"] | {"path": str(ATLAS_MODEL)}
    served = Settings(models={"large": large}, atlas=settings["AMPSWEEP_ATLAS"], home=tmp_path)
    require_own_gpus(served_engines(served))
    with pytest.raises(InvalidRequest, match="share a GPU"):
        require_own_gpus(served_engines(served.model_copy(update={"atlas": True})))
