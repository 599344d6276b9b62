"""The admin of runs: what it shows, what it lets one do, and that a long history does not slow it."""

import datetime as dt
import time
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from pytest_django import DjangoDbBlocker

from pipelines.models import Pipeline
from runs.models import LogEntry, Run
from runs.states import NodeStatus, RunStatus
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker
from tests.history import START, lines, many_runs, node_run, output, past_pipeline, saved_run
from tests.plans import analyse, only_indexed

pytestmark = pytest.mark.django_db

LIST = "/admin/runs/run/"


@pytest.fixture
def client() -> Client:
    """The local administrator, who is no row in the database."""
    return Client(headers={"host": "localhost"})


def page_of(run: Run) -> str:
    return f"{LIST}{run.id}/change/"


def shown_ids(client: Client, query: str = "") -> list[str]:
    response = client.get(LIST + query)
    assert response.status_code == 200
    return [str(run.id) for run in response.context["cl"].result_list]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_a_list_shows_status_pipeline_and_duration(client: Client) -> None:
    run = saved_run(past_pipeline(), RunStatus.FAILED)
    page = client.get(LIST).content.decode()
    assert '<span class="status status-failed">failed</span>' in page
    assert f'href="/admin/pipelines/pipeline/{run.pipeline_id}/change/">Orders</a>' in page
    assert f'href="{page_of(run)}"' in page
    assert "1m23s" in page
    assert "/static/runs/admin.css" in page


def test_a_run_has_its_nodes_and_last_lines_on_one_page(client: Client) -> None:
    run = saved_run(past_pipeline(), RunStatus.FAILED, error="<b>no luck</b>", params={"x": "<script>"})
    node_run(run, status=NodeStatus.FAILED, error="first try <i>")
    node_run(run, attempt=2)
    node_run(run, "second node", position=1, status=NodeStatus.CANCELLED, row_count=None, started_at=None, finished_at=None)
    output(run)
    lines(run, 150, message="Line {n} <img src=x onerror=alert(1)>")
    page = client.get(page_of(run)).content.decode()
    assert "&lt;b&gt;no luck&lt;/b&gt;" in page
    assert "first try &lt;i&gt;" in page
    assert not [text for text in ("<b>no luck", "<img src=x", '"<script>"') if text in page]
    assert "Line 149 &lt;img" in page
    assert "Line 50 &lt;img" in page
    assert "Line 49 &lt;img" not in page
    assert f"/api/runs/{run.id}/nodes/first/output?format=csv" in page
    assert "/nodes/second%20node/" not in page  # it has no output
    assert "style=" not in page.split('class="module run-part"', 1)[1].split("submit-row")[0]


def test_a_page_links_the_runs_that_resume_each_other(client: Client) -> None:
    first = saved_run(past_pipeline(), RunStatus.FAILED)
    second = saved_run(first.pipeline, resumed_from=first)
    assert page_of(first) in client.get(page_of(second)).content.decode()
    assert page_of(second) in client.get(page_of(first)).content.decode()


def test_every_page_about_runs_opens(client: Client) -> None:
    run = saved_run(past_pipeline())
    attempt, made, (line,) = node_run(run), output(run), lines(run, 1)
    worker = register_worker()
    for model, key in (("noderun", attempt.id), ("nodeoutput", made.id), ("logentry", line.seq), ("worker", worker.id)):
        assert client.get(f"/admin/runs/{model}/").status_code == 200
        assert client.get(f"/admin/runs/{model}/{key}/change/").status_code == 200
        if model != "worker":
            found = client.get(f"/admin/runs/{model}/?q={run.id}").context["cl"].result_list
            assert len(found) == 1
            assert len(client.get(f"/admin/runs/{model}/?q=nope").context["cl"].result_list) == 0
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("key", ["nope", "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70", "%00", "1"])
def test_an_unknown_run_leads_back(client: Client, key: str) -> None:
    assert client.get(f"{LIST}{key}/change/").status_code == 302


def test_nothing_can_be_added_changed_or_deleted(client: Client) -> None:
    run = saved_run(past_pipeline())
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.get(f"{LIST}{run.id}/delete/").status_code == 403
    assert client.post(page_of(run), {"status": "failed"}).status_code == 403
    page = client.get(page_of(run)).content.decode()
    assert 'name="_save"' not in page
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCESS


# --- search and filters -----------------------------------------------------------------------------------------------


def test_search_finds_runs_by_id_its_beginning_pipeline_name_and_slug(client: Client) -> None:
    orders, users = past_pipeline("orders-daily", "Orders"), past_pipeline("users", "Order of Users")
    first, second = saved_run(orders), saved_run(users, at=START + dt.timedelta(days=400))
    assert shown_ids(client, f"?q={first.id}") == [str(first.id)]
    assert shown_ids(client, f"?q={str(second.id)[:9]}") == [str(second.id)]
    assert shown_ids(client, f"?q={users.id}") == [str(second.id)]
    assert shown_ids(client, "?q=DAILY") == [str(first.id)]
    assert shown_ids(client, "?q=of+users") == [str(second.id)]
    assert shown_ids(client, "?q=order") == [str(second.id), str(first.id)]
    assert shown_ids(client, "?q=nothing") == []
    assert shown_ids(client, "?q=%00") == [str(second.id), str(first.id)]


def test_filters_narrow_the_list(client: Client) -> None:
    pipeline = past_pipeline()
    old = saved_run(pipeline, RunStatus.FAILED)
    new = saved_run(past_pipeline("other", "Other"), RunStatus.SUCCESS, at=dt.datetime.now(dt.UTC) - dt.timedelta(hours=2), trigger="schedule")
    assert shown_ids(client, "?status__exact=failed") == [str(old.id)]
    assert shown_ids(client, "?trigger__exact=schedule") == [str(new.id)]
    assert shown_ids(client, f"?pipeline={pipeline.id}") == [str(old.id)]
    assert shown_ids(client, "?pipeline=nope") == []
    assert shown_ids(client, "?created=day") == [str(new.id)]
    assert shown_ids(client, "?created=hour") == []
    assert shown_ids(client, "?created=nope") == [str(new.id), str(old.id)]


# --- what can be done -------------------------------------------------------------------------------------------------


def message(client: Client, path: str, **data: str) -> str:
    response = client.post(path, data, follow=True)
    assert response.status_code == 200
    (said,) = response.context["messages"]
    return str(said)


def test_buttons_are_there_when_they_can_be_pressed(client: Client) -> None:
    pipeline = make_pipeline()
    failed = end_run(accept_run(pipeline), RunStatus.FAILED)
    done = end_run(accept_run(pipeline), RunStatus.SUCCESS)
    running = accept_run(pipeline)
    claim_one(register_worker())
    waiting = accept_run(pipeline)

    def buttons(run: Run) -> list[str]:
        page = client.get(page_of(run)).content.decode()
        return [label for label in ("Cancel", "Cancel by force", "Resume") if f">{label}</button>" in page]

    assert [buttons(run) for run in (waiting, running, failed, done)] == [["Cancel"], ["Cancel", "Cancel by force"], ["Resume"], []]


def test_a_waiting_run_is_cancelled(client: Client) -> None:
    run = accept_run()
    assert "is cancelled" in message(client, f"{LIST}{run.id}/cancel/")
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert LogEntry.objects.filter(run=run, kind="run.cancelled").exists()
    assert "already ended" in message(client, f"{LIST}{run.id}/cancel/")


@pytest.mark.parametrize("force", [False, True])
def test_an_executing_run_is_asked_to_end(client: Client, force: bool) -> None:
    run = accept_run()
    claim_one(register_worker())
    assert "will be cancelled" in message(client, f"{LIST}{run.id}/cancel/", **({"force": "1"} if force else {}))
    run.refresh_from_db()
    assert (run.status, run.cancel_requested, run.cancel_force) == (RunStatus.RUNNING, True, force)


def test_a_failed_run_is_resumed_once_at_a_time(client: Client) -> None:
    run = accept_run()
    end_run(run, RunStatus.FAILED)
    said = message(client, f"{LIST}{run.id}/resume/")
    resumed = Run.objects.get(resumed_from=run)
    assert str(resumed.id) in said
    assert "already being resumed" in message(client, f"{LIST}{run.id}/resume/")
    assert Run.objects.count() == 2


def test_selected_runs_are_cancelled_and_resumed(client: Client) -> None:
    pipeline = make_pipeline()
    waiting, failed = accept_run(pipeline), accept_run(pipeline)
    end_run(failed, RunStatus.FAILED)
    chosen = [str(waiting.id), str(failed.id)]
    said = client.post(LIST, {"action": "cancel_selected", "_selected_action": chosen}, follow=True).context["messages"]
    assert sorted(str(one).split()[-1] for one in said) == ["cancel.", "cancelled."]
    client.post(LIST, {"action": "resume_selected", "_selected_action": chosen}, follow=True)
    assert list(Run.objects.filter(resumed_from__isnull=False).values_list("resumed_from_id", flat=True)) == [failed.id]


def test_too_many_selected_runs_are_refused(client: Client) -> None:
    pipeline = past_pipeline()
    many_runs(pipeline, 101)
    data = {"action": "cancel_selected", "_selected_action": ["x"], "select_across": "1"}
    (said,) = client.post(LIST, data, follow=True).context["messages"]
    assert str(said) == "Choose 100 runs at most."


@pytest.mark.parametrize("what", ["cancel", "resume"])
def test_buttons_are_posts_with_a_token(what: str) -> None:
    run = accept_run()
    strict = Client(enforce_csrf_checks=True, headers={"host": "localhost"})
    assert strict.get(f"{LIST}{run.id}/{what}/").status_code == 405
    assert strict.post(f"{LIST}{run.id}/{what}/").status_code == 403
    run.refresh_from_db()
    assert run.status == RunStatus.PENDING


def user_with(*permissions: str) -> Client:
    user = User.objects.create_user("somebody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="runs", codename__in=permissions))
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("permissions", "statuses"), [((), [403] * 4), (("view",), [200, 200, 403, 403]), (("view", "cancel"), [200, 200, 302, 403])]
)
def test_each_right_opens_its_own_door(permissions: tuple[str, ...], statuses: list[int]) -> None:
    run = accept_run()
    client = user_with(*permissions)
    answers = [client.get(LIST), client.get(page_of(run)), client.post(f"{LIST}{run.id}/cancel/"), client.post(f"{LIST}{run.id}/resume/")]
    assert [answer.status_code for answer in answers] == statuses


def test_who_may_only_look_sees_no_buttons() -> None:
    run = accept_run()
    client = user_with("view")
    assert "</button>Cancel" not in client.get(page_of(run)).content.decode()
    assert f"{run.id}/cancel/" not in client.get(page_of(run)).content.decode()
    assert "cancel_selected" not in client.get(LIST).content.decode()


def test_who_is_not_logged_in_is_asked_to() -> None:
    User.objects.create_user("somebody")  # ends local mode
    run = accept_run()
    for path in (LIST, page_of(run), f"{LIST}{run.id}/cancel/"):
        assert Client(headers={"host": "localhost"}).post(path).url.startswith("/admin/login/")  # type: ignore[attr-defined]


# --- a long history ---------------------------------------------------------------------------------------------------

RUNS = 100_000


@pytest.fixture(scope="module")
def history(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Pipeline]:
    """Two pipelines with a long history. Made once, and gone with the transaction around these tests."""
    with django_db_blocker.unblock(), transaction.atomic():
        pipeline = past_pipeline("orders", "Orders")
        many_runs(pipeline, RUNS - 1_000)
        many_runs(past_pipeline("orders-again", "Orders again"), 1_000, trigger="schedule")
        run = saved_run(pipeline, at=START + dt.timedelta(days=1_000))
        node_run(run)
        lines(run, 1_000)
        analyse()
        yield pipeline
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?p=1500",
        "?status__exact=failed",
        "?trigger__exact=schedule",
        "?trigger__exact=webhook",
        "?pipeline={pipeline}",
        "?pipeline={pipeline}&status__exact=failed&p=3",
        "?created=month",
        "?q=again",
        "?q=orders",
        "?q={run}",
        "?q={start}",
        "?o=4",
        "?o=-7.1",
        "?all=",
        "?_facets=True",
    ],
)
@pytest.mark.slow
def test_lists_walk_an_index_whatever_is_asked(client: Client, history: Pipeline, query: str) -> None:
    run = Run.objects.order_by("id").first()
    assert run is not None
    path = LIST + query.format(pipeline=history.id, run=run.id, start=str(run.id)[:10])
    # The beginning of an id names a narrow range of the index; PostgreSQL may as well sort it as walk it in order.
    may_sort = 1_000 if "{start}" in query else 0
    started = time.perf_counter()
    with only_indexed("runs_run", may_sort) as captured:
        assert client.get(path).status_code == 200
    print(f"{path}: {(time.perf_counter() - started) * 1000:.0f} ms, {len(captured)} queries")  # for the reader; a machine's speed is no test
    assert len(captured) <= 9


@pytest.mark.slow
def test_the_page_of_a_run_is_quick_too(client: Client, history: Pipeline) -> None:
    run = Run.objects.order_by("-id").first()
    assert run is not None
    with only_indexed("runs_logentry"), only_indexed("runs_run") as captured:
        assert client.get(page_of(run)).status_code == 200
    assert len(captured) <= 9
    assert not [query for query in captured.captured_queries if "document" in query["sql"]]
