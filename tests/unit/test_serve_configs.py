"""The Serve configs say what Serve understands: it ignores a key that stands where it does not belong."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema, ServeDeploySchema

from fxcast.cluster.local import REPOSITORY
from fxcast.cluster.serve_driver import load_serve_config
from fxcast.errors import BadSetting
from fxcast.serving.app import ServiceArgs
from fxcast.serving.names import API, DEPLOYMENT
from fxcast.web.deployment import WebArgs, build

_FILES = ("local.yaml", "gpu.yaml")


def deployments(file: str) -> dict[str, dict[str, Any]]:
    content = yaml.safe_load((REPOSITORY / "serve_configs" / file).read_text())
    ServeDeploySchema.model_validate(content)
    (application,) = content["applications"]
    ServiceArgs.model_validate(application["args"])
    return {deployment["name"]: deployment for deployment in application["deployments"]}


@pytest.mark.parametrize("file", _FILES)
def test_every_key_is_one_of_serves_in_its_place(file: str) -> None:
    found = deployments(file)
    assert found.keys() == {DEPLOYMENT, API}
    for deployment in found.values():
        assert deployment.keys() <= DeploymentSchema.model_fields.keys()
        assert deployment.get("autoscaling_config", {}).keys() <= AutoscalingConfig.model_fields.keys()
        assert deployment.get("ray_actor_options", {}).keys() <= RayActorOptionsSchema.model_fields.keys()


@pytest.mark.parametrize("file", _FILES)
def test_what_a_replica_takes_is_more_than_what_it_is_to_have(file: str) -> None:
    for deployment in deployments(file).values():
        target = deployment.get("autoscaling_config", {}).get("target_ongoing_requests", 0)
        assert deployment["max_ongoing_requests"] > target, "or nothing scales"


def test_a_replica_on_a_gpu_reserves_a_share_of_it_and_its_memory() -> None:
    options = deployments("gpu.yaml")[DEPLOYMENT]["ray_actor_options"]
    assert (options["num_gpus"], options["memory"]) == (0.25, 3_000_000_000)


@pytest.mark.parametrize("file", _FILES)
def test_each_field_of_a_deployment_is_explained(file: str) -> None:
    lines = (REPOSITORY / "serve_configs" / file).read_text().partition("    deployments:\n")[2].splitlines()
    fields = [line for line in lines if "- name:" not in line and not line.endswith(":")]
    assert fields
    assert [line for line in fields if "# " not in line] == []


def test_with_the_page_the_service_is_the_same_as_without_it() -> None:
    local, web = (yaml.safe_load((REPOSITORY / "serve_configs" / file).read_text()) for file in ("local.yaml", "web.yaml"))
    ServeDeploySchema.model_validate(web)
    service, page = web.pop("applications")
    (alone,) = local.pop("applications")
    assert (service, web) == (alone, local)
    args = WebArgs.model_validate(page["args"])
    assert page["route_prefix"] == args.prefix
    assert page["import_path"] == f"{build.__module__}:{build.__name__}"
    (deployment,) = page["deployments"]
    assert deployment.keys() <= DeploymentSchema.model_fields.keys()


def test_args_reach_the_application_that_they_are_for_and_an_unknown_one_is_refused() -> None:
    path = REPOSITORY / "serve_configs" / "web.yaml"
    config = load_serve_config(path, args={"threads": 2}, port=1234, others={"web": {"store": "elsewhere"}})
    service, page = config["applications"]
    assert (service["args"]["threads"], page["args"]["store"], config["http_options"]["port"]) == (2, "elsewhere", 1234)
    with pytest.raises(BadSetting, match="is not a Serve config: KeyError"):
        load_serve_config(path, args={}, port=1234, others={"webb": {}})
