"""Versions that differ between the driver and the nodes, told in a sentence."""

from __future__ import annotations

import importlib.metadata
import platform

import pytest
from ray._private.utils import check_version_info  # what ray.init calls: the sentence that is taken apart here is Ray's own

from fxcast import __version__
from fxcast.cluster.versions import MISSING, SOURCE, Skew, compare, explained_refusal, local_versions
from fxcast.errors import BadSetup


def test_versions_of_this_process_are_those_that_it_would_import() -> None:
    found = local_versions()
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["python"] == platform.python_version()
    assert found["fxcast"] == __version__
    assert len(found[SOURCE]) == 12


def test_same_versions_differ_in_nothing() -> None:
    versions = local_versions()
    assert compare(versions, {"10.0.0.1": versions, "10.0.0.2": dict(versions)}) == ()


def test_node_with_another_package_or_without_it_is_named() -> None:
    expected = {"numpy": "2.4.0", "torch": "2.13.0"}
    found = {"good": expected, "other": {"numpy": "2.3.9", "torch": "2.13.0"}, "bare": {"numpy": "2.4.0", "torch": MISSING}}
    assert [(skew.node, skew.package, skew.found) for skew in compare(expected, found)] == [
        ("other", "numpy", "2.3.9"),
        ("bare", "torch", "none"),
    ]


def test_build_for_a_gpu_is_the_same_version_as_one_for_the_cpu() -> None:
    assert compare({"torch": "2.13.0+cpu"}, {"gpu": {"torch": "2.13.0+cu130"}}) == ()
    assert len(compare({"torch": "2.13.0+cpu"}, {"gpu": {"torch": "2.13.1+cpu"}})) == 1


def test_other_code_is_mended_otherwise_than_other_packages() -> None:
    code = Skew(node="n", package=SOURCE, found="a", expected="b")
    package = Skew(node="n", package="numpy", found="1", expected="2")
    assert "jobs/runtime_env.yaml" in code.advice
    assert "constraints.txt" in package.advice


@pytest.mark.parametrize(
    ("ray_version", "python_version", "named"), [("2.59.0", platform.python_version(), "Ray"), (None, "3.11.1", "Python")]
)
def test_refusal_by_ray_becomes_one_sentence(ray_version: str | None, python_version: str, named: str) -> None:
    cluster = {"ray_version": ray_version or importlib.metadata.version("ray"), "python_version": python_version}
    with pytest.raises(BadSetup) as refused, explained_refusal():
        check_version_info(cluster, "node 10.0.0.1", raise_on_mismatch=True)
    assert str(refused.value).startswith(
        f"{named} on node that started the cluster: found {ray_version or python_version}, the driver"
    )
    assert "\n" not in str(refused.value)


def test_other_errors_of_ray_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else"), explained_refusal():
        raise RuntimeError("something else")
