"""What `make release` makes: an audit that never pretends, a bill of materials of the pinned packages, checksums that hold."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from fxcast.errors import BadSetup, MustStop
from release import audit as audits
from release.audit import Audit, audit_packages, read_report, require_audited
from release.files import CHECKSUMS, changes, empty, notes, write_checksums
from release.make import REPOSITORY
from release.sbom import check_sbom, differences, read_pins, read_versions, write_sbom

_REPORT = {
    "dependencies": [
        {"name": "numpy", "version": "2.4.1", "vulns": []},
        {
            "name": "jinja2",
            "version": "2.4",
            "vulns": [{"id": "PYSEC-2014-8", "aliases": ["CVE-2014-1402"], "fix_versions": ["2.7.2"]}],
        },
        {"name": "inhouse", "skip_reason": "Dependency not found on PyPI"},
    ]
}


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bill of materials of the environment that runs the tests."""
    target = tmp_path_factory.mktemp("sbom") / "fxcast.cdx.json"
    write_sbom(target, REPOSITORY / "pyproject.toml")
    return target


def test_bill_of_materials_lists_every_pinned_package_in_its_version(sbom: Path) -> None:
    check_sbom(sbom, REPOSITORY / "constraints.txt")
    versions = read_versions(sbom.read_text())
    pins = read_pins(REPOSITORY / "constraints.txt")
    assert len(pins) > 150
    assert pins.items() <= versions.items()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.read_text()) is None


def test_bill_of_materials_names_fxcast_and_the_license_of_a_package(sbom: Path) -> None:
    content = json.loads(sbom.read_text())
    assert content["metadata"]["component"]["name"] == "fxcast"
    (numpy,) = [component for component in content["components"] if component["name"] == "numpy"]
    assert numpy["licenses"]
    assert numpy["purl"].startswith("pkg:pypi/numpy@")


def test_environment_that_is_not_the_pinned_one_is_no_release(sbom: Path, tmp_path: Path) -> None:
    other = tmp_path / "constraints.txt"
    other.write_text("numpy==0.1\nno-such_Package==1.0  # a remark\n")
    with pytest.raises(MustStop, match=r"no-such-package found nothing, pinned 1.0; numpy found 2\.\S+, pinned 0.1") as refused:
        check_sbom(sbom, other)
    assert "constraints.txt" in str(refused.value)


def test_bill_of_materials_that_breaks_the_schema_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cdx.json"
    broken.write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "no type"}]}))
    with pytest.raises(MustStop, match=r"not CycloneDX 1\.6"):
        check_sbom(broken, REPOSITORY / "constraints.txt")


def test_build_tags_do_not_make_another_version() -> None:
    told = json.dumps({"components": [{"name": "Torch_X", "version": "2.13.0+cpu"}]})
    assert differences(read_versions(told), {"torch-x": "2.13.0"}) == []


def test_report_tells_what_is_vulnerable_and_what_nobody_looked_at() -> None:
    audit = read_report("pypi", _REPORT)
    assert (audit.audited, audit.skipped, audit.is_complete) == (2, ("inhouse",), False)
    assert audit.vulnerabilities == ("jinja2 2.4: PYSEC-2014-8, CVE-2014-1402 (mended in 2.7.2)",)


def test_known_vulnerability_stops_a_release_whatever_is_allowed() -> None:
    for allowed in (False, True):
        with pytest.raises(MustStop, match="CVE-2014-1402"):
            require_audited([read_report("pypi", _REPORT)], allow_none=allowed)


@pytest.mark.parametrize(
    "audit",
    [
        Audit(service="osv", problem="did not answer"),
        Audit(service="pypi", audited=183, skipped=("torch",)),
        Audit(service="pypi"),
    ],
    ids=["no answer", "one package unknown", "nothing asked"],
)
def test_packages_that_nobody_audited_stop_a_release_unless_told_and_then_the_notes_say_so(audit: Audit) -> None:
    with pytest.raises(MustStop, match=r"NOT audited.*ALLOW_NO_AUDIT=1"):
        require_audited([audit], allow_none=False)
    told = require_audited([audit], allow_none=True)
    text = notes(version="1.0.0", source="commit 1", audit=told, sbom="x.cdx.json", files=["x.whl"], changed="- All.")
    assert "**NOT audited**" in text
    assert audit.describe() in text


def test_one_service_that_answers_for_all_is_enough() -> None:
    told = require_audited([Audit(service="pypi", problem="down"), Audit(service="osv", audited=184)], allow_none=False)
    assert told == "Audited with pip-audit. pypi: down; osv: 184 packages audited, 0 known vulnerabilities."


def test_service_that_knows_no_vulnerability_at_all_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a mirror answers that serves packages without advisories; the real pip-audit calls that "No known vulnerabilities found".
    def find_nothing(service: str, requirements: Path) -> Audit:
        return Audit(service=service, audited=len(requirements.read_text().splitlines()))

    monkeypatch.setattr(audits, "ask", find_nothing)
    told = audit_packages(REPOSITORY / "constraints.txt")
    assert [audit.service for audit in told] == ["pypi", "osv"]
    assert all("no advisories" in audit.problem and not audit.is_complete for audit in told)


def test_pip_audit_that_fails_is_a_problem_and_not_a_clean_bill(tmp_path: Path) -> None:
    audit = audits.ask("pypi", tmp_path / "missing.txt")
    assert audit.problem.startswith("did not answer (")
    assert not audit.is_complete


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"wheel")
    (tmp_path / "b.tar.gz").write_bytes(b"sdist")
    sums = write_checksums(tmp_path)
    assert sums.read_text().splitlines()[0] == f"{hashlib.sha256(b'wheel').hexdigest()}  a.whl"
    check = ["sha256sum", "--check", "--strict", CHECKSUMS]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "b.tar.gz").write_bytes(b"other")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_only_an_older_release_is_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadSetup, match="no release"):
        empty(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    write_checksums(tmp_path)
    empty(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_notes_take_the_section_of_the_version_else_what_is_unreleased() -> None:
    log = "# Changelog\n\n## [Unreleased]\n\n- New.\n\n## [1.0.0] - 2026-11-01\n\n- First.\n"
    assert (changes(log, "1.0.0"), changes(log, "2.0.0")) == ("- First.", "- New.")
    with pytest.raises(MustStop, match="CHANGELOG"):
        changes("# Changelog\n", "1.0.0")
