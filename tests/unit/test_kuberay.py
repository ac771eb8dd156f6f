"""The manifests of deploy/kuberay hold fields that Kubernetes and KubeRay know, and keep to least rights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,  # pyright: ignore[reportPrivateUsage]  # what Ray's autoscaler reads the manifest with
)
from ray.autoscaler._private.util import validate_config

from fxcast.cluster.local import REPOSITORY
from tests.unit.test_serve_configs import deployments

KUBERNETES = "1.34.0"
FILES = ("raycluster", "rayservice", "rayjob")
OURS = {"app.kubernetes.io/part-of": "fxcast"}
SECRETS = {"fxcast", "fxcast-ray-token", "fxcast-redis"}
# Names of fields in KubeRay 1.7's reference (docs.ray.io, KubeRay CRD API reference), read in November 2026.
FIELDS = """
cluster: upgradeStrategy authOptions suspend managedBy autoscalerOptions headServiceAnnotations enableInTreeAutoscaling
    gcsFaultToleranceOptions historyServerOptions networkPolicy tlsOptions headGroupSpec rayVersion workerGroupSpecs
auth: enableK8sTokenAuth secretName mode
autoscaler: resources image imagePullPolicy securityContext idleTimeoutSeconds upscalingMode version env envFrom volumeMounts
    command args
fault_tolerance: backend redisUsername redisPassword externalStorageNamespace redisAddress storage
head: template headService enableIngress ingressOptions resources labels rayStartParams serviceType
worker: suspend groupName replicas minReplicas maxReplicas idleTimeoutSeconds priority resources labels rayStartParams template
    scaleStrategy numOfHosts
service: rayClusterDeletionDelaySeconds serveService upgradeStrategy managedBy serveConfigV2 rayClusterConfig
    excludeHeadPodFromServeSvc suspend
job: activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate metadata clusterSelector submitterConfig managedBy
    deletionStrategy entrypoint runtimeEnvYAML jobId submissionMode entrypointResources entrypointNumCpus entrypointNumGpus
    ttlSecondsAfterFinished preRunningDeadlineSeconds shutdownAfterJobFinishes suspend
"""
KNOWN = {kind: set(names.split()) for kind, names in yaml.safe_load(FIELDS).items()}


@cache
def documents(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((REPOSITORY / "deploy" / "kuberay" / f"{file}.yaml").read_text()))


def spec(file: str) -> dict[str, Any]:
    return documents(file)[0]["spec"]


def cluster(file: str) -> dict[str, Any]:
    """Return the cluster's specification, wherever the file has it."""
    return {"raycluster": lambda: spec(file), "rayservice": lambda: spec(file)["rayClusterConfig"]}.get(
        file, lambda: spec(file)["rayClusterSpec"]
    )()


def groups(file: str) -> list[dict[str, Any]]:
    return [cluster(file)["headGroupSpec"], *cluster(file)["workerGroupSpecs"]]


def pods(file: str) -> list[dict[str, Any]]:
    submitter = [spec(file)["submitterPodTemplate"]] if file == "rayjob" else []
    return [*(group["template"] for group in groups(file)), *submitter]


def every(value: object, key: str) -> Iterator[Any]:
    """Return what stands under a key anywhere below."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name == key:
                yield below
            yield from every(below, key)
    if isinstance(value, list):
        for below in value:
            yield from every(below, key)


def test_kuberay_knows_each_field() -> None:
    kinds = {
        "raycluster": ("RayCluster", KNOWN["cluster"]),
        "rayservice": ("RayService", KNOWN["service"]),
        "rayjob": ("RayJob", KNOWN["job"]),
    }
    for file, (kind, fields) in kinds.items():
        assert (documents(file)[0]["apiVersion"], documents(file)[0]["kind"]) == ("ray.io/v1", kind)
        assert spec(file).keys() <= fields
        found = cluster(file)
        assert found.keys() <= KNOWN["cluster"]
        assert found["authOptions"].keys() <= KNOWN["auth"]
        assert found["autoscalerOptions"].keys() <= KNOWN["autoscaler"]
        assert found.get("gcsFaultToleranceOptions", {}).keys() <= KNOWN["fault_tolerance"]
        head, *workers = groups(file)
        assert head.keys() <= KNOWN["head"]
        assert all(worker.keys() <= KNOWN["worker"] for worker in workers)


@pytest.mark.parametrize("file", FILES)
def test_kubernetes_knows_each_field_of_pods_and_other_objects(file: str) -> None:
    for template in pods(file):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "any"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    for document in documents(file)[1:]:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_field_that_is_misspelt_would_be_seen() -> None:
    template = pods("raycluster")[0]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": {**template["spec"], "securityContxt": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="securityContxt"):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("file", FILES)
def test_rays_autoscaler_reads_the_groups_as_they_are_meant(file: str) -> None:
    config = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "any", "namespace": "any"}, "spec": cluster(file)})
    validate_config(config)
    kinds = config["available_node_types"]
    assert kinds["headgroup"]["resources"]["CPU"] == 0, "no work on the head"
    for group in groups(file)[1:]:
        kind = kinds[group["groupName"]]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert kind["resources"]["CPU"] == int(limits["cpu"])
        assert kind["resources"].get("GPU", 0) == int(limits.get("nvidia.com/gpu", 0))
        assert group["groupName"] in ("cpu", f"gpu-{kind['resources'].get('GPU')}")
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_cluster_for_jobs_has_cpu_workers_and_gpu_workers_of_two_sizes() -> None:
    assert [group["groupName"] for group in groups("raycluster")[1:]] == ["cpu", "gpu-1", "gpu-8"]
    assert all(group["minReplicas"] == 0 for group in groups("raycluster")[1:])


@pytest.mark.parametrize("file", FILES)
def test_the_cluster_needs_a_token_and_is_of_the_ray_we_pin(file: str) -> None:
    found = cluster(file)
    assert found["authOptions"] == {"mode": "token", "secretName": "fxcast-ray-token"}
    assert found["rayVersion"] == ray.__version__
    assert f"ray=={found['rayVersion']}" in (REPOSITORY / "constraints.txt").read_text().split()


@pytest.mark.parametrize("file", ["raycluster", "rayservice"])
def test_a_cluster_that_is_to_last_keeps_its_state_in_redis(file: str) -> None:
    options = cluster(file)["gcsFaultToleranceOptions"]
    assert options["redisAddress"]
    assert options["redisPassword"] == {"valueFrom": {"secretKeyRef": {"name": "fxcast-redis", "key": "password"}}}


@pytest.mark.parametrize("file", FILES)
def test_pods_have_no_rights_and_what_they_ask_for_is_what_they_get(file: str) -> None:
    for template in pods(file):
        pod = template["spec"]
        assert template["metadata"]["labels"].items() >= OURS.items(), "the network policy and its neighbours know it by this"
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 1000, "of deploy/Dockerfile"
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert not container["image"].endswith("latest")
            assert ":" in container["image"]
    for group in groups(file):
        assert "readinessProbe" in group["template"]["spec"]["containers"][0]
    for worker in groups(file)[1:]:
        assert worker["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("file", FILES)
def test_gpus_go_to_the_image_with_cuda_only(file: str) -> None:
    for template in pods(file):
        for container in template["spec"]["containers"]:
            has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
            assert container["image"].endswith("-cuda" if has_gpu else "-cpu")
            assert ("tolerations" in template["spec"]) == has_gpu


@pytest.mark.parametrize("file", FILES)
def test_secrets_are_named_and_never_written_down(file: str) -> None:
    assert "Secret" not in {document["kind"] for document in documents(file)}
    named = {found["name"] for key in ("secretRef", "secretKeyRef") for found in every(documents(file), key)}
    assert named | set(every(documents(file), "secretName")) <= SECRETS
    assert [found["name"] for found in every(documents(file), "secretRef")].count("fxcast") == len(groups(file))
    assert all(variable["name"] == "FXCAST_HOME" for found in every(documents(file), "env") for variable in found)


def test_only_the_cluster_itself_reaches_gcs_and_only_the_operator_the_dashboard_too() -> None:
    (policy,) = (document for document in documents("raycluster") if document["kind"] == "NetworkPolicy")
    assert policy["spec"]["podSelector"] == {"matchLabels": OURS}
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    everything, *rest = policy["spec"]["ingress"]
    assert everything == {"from": [{"podSelector": {"matchLabels": OURS}}]}
    opened = {port["port"]: [] for rule in rest for port in rule["ports"]}
    for rule in rest:
        assert rule["from"], "an empty one would be the world"
        assert all(peer.get("podSelector") or peer["namespaceSelector"] for peer in rule["from"])
        for port in rule["ports"]:
            opened[port["port"]] += rule["from"]
    assert opened.keys() == {8265, 8000, 8080}
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}
    assert opened[8265] == [operator]


def test_the_service_is_the_one_of_serve_configs_and_is_upgraded_in_a_new_cluster() -> None:
    configured = yaml.safe_load((REPOSITORY / "serve_configs" / "gpu.yaml").read_text())
    assert yaml.safe_load(spec("rayservice")["serveConfigV2"]) == configured
    assert spec("rayservice")["upgradeStrategy"] == {"type": "NewCluster"}
    assert spec("rayservice")["rayClusterDeletionDelaySeconds"] > configured["http_options"]["request_timeout_s"]
    found = deployments("gpu.yaml")
    (workers,) = groups("rayservice")[1:]
    for deployment in found.values():
        grace = deployment.get("graceful_shutdown_timeout_s", 20)
        assert workers["template"]["spec"]["terminationGracePeriodSeconds"] > grace


def test_all_replicas_of_the_service_fit_into_its_cluster() -> None:
    (workers,) = groups("rayservice")[1:]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    for resource, has in (("num_gpus", 1), ("num_cpus", int(limits["cpu"])), ("memory", 26 * 2**30 * 0.7)):
        needed = sum(
            deployment["autoscaling_config"]["max_replicas"] * deployment["ray_actor_options"].get(resource, 0)
            for deployment in deployments("gpu.yaml").values()
        )
        assert needed <= workers["maxReplicas"] * has, resource


def test_of_the_services_pods_one_at_a_time_is_disturbed() -> None:
    (budget,) = (document for document in documents("rayservice") if document["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    (workers,) = groups("rayservice")[1:]
    assert workers["template"]["metadata"]["labels"].items() >= budget["spec"]["selector"]["matchLabels"].items()


def test_a_job_that_is_submitted_again_is_the_same_job() -> None:
    job = spec("rayjob")
    assert job["jobId"]
    assert job["submissionMode"] == "K8sJobMode", "whose submitter looks for the id before it submits"
    assert " --name " in job["entrypoint"], "or a retry would begin at the beginning"
    assert job["shutdownAfterJobFinishes"]
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["activeDeadlineSeconds"] > 0
