"""What the doctor makes of what it sees, without a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fxcast.adapters.storage.probe import DatabaseProbe
from fxcast.cluster import doctor_checks
from fxcast.cluster.doctor import Check, Finding, Needs, State, look, passed
from fxcast.cluster.nodes import Node

NEEDS = Needs(
    folders={},
    database_url=None,
    serve_port=8000,
    variables=(),
    max_clock_skew_s=2.0,
    min_free_gb=1.0,
    require_token=True,
    timeout_s=10.0,
)
NODE = Node(id="ab" * 28, address="10.0.0.1", machine="one")


def test_check_that_crashes_is_a_failed_check_that_says_why_and_keeps_what_it_found_before() -> None:
    def crash(needs: Needs, nodes: Sequence[Node]) -> Iterator[Finding]:
        yield passed("the first", nodes[0].name)
        raise KeyError(f"port {needs.serve_port}")

    first, second = look(Check(name="odd", look=crash), NEEDS, [NODE])
    assert (first.check, first.state) == ("odd", State.PASSED)
    assert (second.check, second.state) == ("odd", State.FAILED)
    assert "KeyError: 'port 8000'" in second.found


def test_nothing_to_look_at_is_no_success() -> None:
    for check in (doctor_checks.gpus, doctor_checks.storage, doctor_checks.database, doctor_checks.variables):
        (finding,) = check(NEEDS, [])
        assert finding.state is State.SKIPPED


def test_clock_is_judged_by_what_is_certain_of_it() -> None:
    def state(offset_s: float, error_s: float) -> State:
        return doctor_checks.clock_finding(offset_s, error_s, 2.0, "against the driver's", NODE).state

    assert state(1.9, 0.01) is State.PASSED
    assert state(-2.5, 0.01) is State.FAILED
    assert state(2.5, 0.6) is State.PASSED  # it may be 1.9
    assert state(0.0, 3.0) is State.SKIPPED


def test_database_that_is_a_file_fails_a_cluster_of_several_machines() -> None:
    probe = DatabaseProbe(shown="sqlite:///fx.db", is_file=True, revision="0006", clock_offset_s=None, clock_error_s=0.0)
    assert doctor_checks.database_finding(probe, NODE, machines=1, limit_s=2.0).state is State.PASSED
    several = doctor_checks.database_finding(probe, NODE, machines=2, limit_s=2.0)
    assert several.state is State.FAILED
    assert "PostgreSQL" in several.advice


def test_database_whose_clock_is_off_fails() -> None:
    probe = DatabaseProbe(shown="postgresql://h/x", is_file=False, revision="0006", clock_offset_s=-40.0, clock_error_s=0.002)
    finding = doctor_checks.database_finding(probe, NODE, machines=2, limit_s=2.0)
    assert finding.state is State.FAILED
    assert "-40000 ms" in finding.found
