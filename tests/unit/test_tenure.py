"""A worker that was frozen for longer than its lease must know it at its first step, before any other thread has run."""

import pytest

from brokoli_site.common.errors import NodeCancelled
from pipelines.nodes.base import Stop
from runs import tenure
from runs.tenure import Tenure


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says: `now[0]`."""
    told = [100.0]
    monkeypatch.setattr(tenure, "clock", lambda: told[0])
    return told


def test_it_holds_for_one_lease_after_the_last_beat(now: list[float]) -> None:
    held = Tenure("w", 15, beaten=100.0)
    now[0] = 114.9
    assert held.holds()
    assert held.renew(114.0)
    now[0] = 128.9
    assert held.holds()
    now[0] = 129.0
    assert not held.holds()


def test_what_is_over_stays_over(now: list[float]) -> None:
    held = Tenure("w", 15, beaten=100.0)
    now[0] = 115.0
    assert not held.renew(115.0)
    now[0] = 100.0
    assert not held.holds()


def test_a_beat_that_began_in_time_and_ended_too_late_renews_nothing(now: list[float]) -> None:
    held = Tenure("w", 15, beaten=100.0)
    now[0] = 120.0  # frozen while the database answered
    assert not held.renew(114.0)


def test_a_node_asks_at_its_next_check_and_needs_nobody_to_tell_it(now: list[float]) -> None:
    held = Tenure("w", 15, beaten=100.0)
    told = []
    stop = Stop(lease_is_held=held.holds)
    stop.on_stop(lambda: told.append("stopped"))
    stop.check()
    now[0] = 115.0

    with pytest.raises(NodeCancelled, match="lost the run"):
        stop.check()

    assert told == ["stopped"]
    assert stop.reason is not None
