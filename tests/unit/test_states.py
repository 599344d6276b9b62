"""The table of allowed changes, stated a second time from the documents' words."""

import itertools

import pytest

from runs.states import NODE_TERMINAL, TERMINAL, NodeStatus, RunStatus, check_node, check_run

RUN_MAY = {
    ("pending", "running"),
    ("pending", "cancelled"),
    ("running", "success"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "pending"),
}
NODE_MAY = {
    ("pending", "running"),
    ("pending", "skipped"),
    ("pending", "cancelled"),
    ("running", "success"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "pending"),
}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunStatus, RunStatus)))
def test_run_transitions(before: RunStatus, after: RunStatus) -> None:
    if (before, after) in RUN_MAY:
        check_run(before, after)
    else:
        with pytest.raises(ValueError, match=f"from {before} to {after}"):
            check_run(before, after)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(NodeStatus, NodeStatus)))
def test_node_transitions(before: NodeStatus, after: NodeStatus) -> None:
    if (before, after) in NODE_MAY:
        check_node(before, after)
    else:
        with pytest.raises(ValueError, match=f"from {before} to {after}"):
            check_node(before, after)


def test_terminal_states_are_final() -> None:
    assert {RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED} == TERMINAL
    assert {NodeStatus.SUCCESS, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED} == NODE_TERMINAL
