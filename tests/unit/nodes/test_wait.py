"""What a wait answers while what it waits for is not there, and when it gives up."""

import datetime as dt
from typing import Any

import pytest

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeError, NodeTimeout
from pipelines import documents, durations, spec, validation
from pipelines.nodes.base import OtherPipeline
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.receivers import answer, receiver

pytestmark = pytest.mark.any_database

DATE = dt.date(2024, 5, 6)
END = dt.datetime(2024, 5, 7, tzinfo=dt.UTC)


@pytest.fixture
def workshop(workshop: Workshop, settings: Any) -> Workshop:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.0/8")
    return workshop


def config(condition: str, **more: Any) -> Given:
    return Given({"condition": condition, **more})


def awaited(workshop: Workshop, given: Given, **facts: Any) -> tuple[float, str]:
    parked, log = workshop.look("wait", given, **facts)
    assert log.lines == [], "a look that finds nothing leaves no line"
    return parked.seconds, parked.reason


def test_a_file_that_is_not_there_yet(workshop: Workshop) -> None:
    assert awaited(workshop, config("file_exists", path="in/*.csv")) == (30.0, "a file 'in/*.csv'")
    (workshop.folder / "in").mkdir()
    (workshop.folder / "in/a.csv").touch()
    (workshop.folder / "in/b.csv").write_text("x")
    reason = "a file 'in/*.csv' that holds something (1 of 2 are empty)"
    assert awaited(workshop, config("file_exists", path="in/*.csv", non_empty=True, poll_interval="1m30s")) == (90.0, reason)


def test_a_server_that_answers_otherwise(workshop: Workshop) -> None:
    with receiver(answer(503), answer(200), answer(404)) as server:
        url = server.url("/ready?token=1")
        shown = server.url("/ready")
        assert awaited(workshop, config("http", url=url, poll_interval=5)) == (5.0, f"{shown} to answer 200 (it answers 503)")
        assert workshop.run("wait", config("http", url=url)).log.lines == [("info", f"{shown} answers 200")]
        assert workshop.run("wait", config("http", url=url, expect_status=404, method="HEAD")).log.lines == [("info", f"{shown} answers 404")]
        assert [one.method for one in server.received] == ["GET", "GET", "HEAD"]
    assert awaited(workshop, config("http", url=url))[1].startswith(f"{shown} to answer 200 (the server could not be reached")


def test_a_redirection_is_followed_unless_it_is_waited_for(workshop: Workshop) -> None:
    with receiver(answer(302, Location="/there"), answer(200), answer(302, Location="/there")) as server:
        workshop.run("wait", config("http", url=server.url("/a")))
        workshop.run("wait", config("http", url=server.url("/b"), expect_status=302))
        assert [one.path for one in server.received] == ["/a", "/there", "/b"]


def test_an_interval_that_has_not_ended(workshop: Workshop) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    seconds, reason = awaited(workshop, config("interval_elapsed", offset="30m"), interval_end=soon)
    assert 8990 < seconds <= 9000
    assert reason.endswith("UTC")
    assert "It is past 2024-05-07 00:10:00 UTC" in look(workshop, config("interval_elapsed", offset="10m"), interval_end=END)
    assert "It is past 2024-05-06 00:00:00 UTC" in look(workshop, config("interval_elapsed"), logical_date=DATE)


def look(workshop: Workshop, given: Given, **facts: Any) -> str:
    """The line that is logged when it is there."""
    with pytest.raises(AssertionError) as caught:
        workshop.look("wait", given, **facts)
    return str(caught.value)


def test_another_pipeline(workshop: Workshop) -> None:
    def seen(**statuses: str) -> dict[str, Any]:
        return {"pipelines": {"orders": OtherPipeline("Orders", **statuses)}, "logical_date": DATE, "interval_end": END}

    latest = config("pipeline", pipeline_id="orders")
    assert awaited(workshop, latest, **seen())[1] == "the latest run of pipeline 'Orders' to succeed (there is none yet)"
    assert awaited(workshop, latest, **seen(latest="running"))[1] == "the latest run of pipeline 'Orders' to succeed (it is running)"
    assert "The latest run of pipeline 'Orders' succeeded" in look(workshop, latest, **seen(latest="success"))
    of_date = config("pipeline", pipeline_id="orders", match="date")
    assert awaited(workshop, of_date, **seen(latest="success", of_date="failed"))[1].startswith("the run for 2024-05-06 of pipeline")
    assert "The run for 2024-05-06" in look(workshop, of_date, **seen(of_date="success"))
    of_interval = config("pipeline", pipeline_id="orders", match="interval")
    assert "ends at 2024-05-07 00:00:00 UTC" in awaited(workshop, of_interval, **seen(latest="success"))[1]
    with pytest.raises(NodeError, match="this run has no interval"):
        workshop.look("wait", of_interval, pipelines={"orders": OtherPipeline("Orders")})


# --- giving up --------------------------------------------------------------------------------------------------------------


def test_the_last_look_is_at_the_end_of_the_time(workshop: Workshop) -> None:
    given = config("file_exists", path="never", timeout="1h", poll_interval="20m")
    assert awaited(workshop, given, waited_seconds=3000.0)[0] == 600.0
    with pytest.raises(NodeTimeout, match=r"^Waited 1h00m for a file 'never', in vain\.$"):
        workshop.look("wait", given, waited_seconds=3600.0)


def test_what_came_at_the_last_moment_is_there(workshop: Workshop) -> None:
    (workshop.folder / "late").touch()
    assert "There is 'late'" in look(workshop, config("file_exists", path="late", timeout=5), waited_seconds=7200.0)


@pytest.mark.parametrize(("timeout", "patient"), [({}, 6 * 3600), ({"timeout": 0}, 6 * 3600), ({"timeout": "24h"}, 24 * 3600)])
def test_it_waits_for_hours(workshop: Workshop, timeout: dict[str, Any], patient: int) -> None:
    given = config("file_exists", path="never", **timeout)
    assert awaited(workshop, given, waited_seconds=patient - 10)[0] == 10.0
    with pytest.raises(NodeTimeout):
        workshop.look("wait", given, waited_seconds=patient)


# --- durations --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2h30m", 9000), ("1.5h", 5400), (".5s", 0.5), ("150ms", 0.15), ("45", 45), (7, 7), (0.5, 0.5), (" 5m ", 300)]
)
def test_durations(text: object, seconds: float) -> None:
    assert durations.seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 m", "-5s", "1d", "5m!", "1e3", "m5", True, None, -1, float("inf"), float("nan"), [], "9" * 200])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration such as"):
        durations.seconds_of(text)


def test_a_timeout_of_any_node_may_be_a_duration() -> None:
    document = {"name": "p", "nodes": [{"id": "w", "type": "wait", "config": {"condition": "file_exists", "path": "x", "timeout": "1h30m"}}]}
    assert spec.from_document(documents.normalised(document)).nodes[0].timeout_seconds == 5400
    assert validation.validate(document).valid
    document["nodes"][0]["config"]["timeout"] = "soon"  # type: ignore[index]
    assert "'timeout' must be a number from 0 to 604800, or a duration" in validation.validate(document).errors[0].message
