"""`hooks` of a document: what is understood, and what is said of the rest."""

from typing import Any

import pytest

from pipelines import hooks
from pipelines.hooks import Hook, read, receiver, render, stored
from pipelines.problems import Problem


def problems_of(value: Any) -> list[Problem]:
    problems: list[Problem] = []
    read({"hooks": value}, problems)
    return problems


@pytest.mark.parametrize(
    ("given", "kind", "url", "extra"),
    [
        ("https://hooks.example.org/x", "webhook", "https://hooks.example.org/x", {}),
        ({"url": "http://hooks.example.org"}, "webhook", "http://hooks.example.org", {}),
        ({"type": "Slack", "url": "https://hooks.slack.com/services/T/B/x", "extra": {"channel": "#data"}}, "slack", None, {"channel": "#data"}),
        ({"type": "email", "url": "a@example.org,b@example.org"}, "email", "a@example.org, b@example.org", {}),
        ({"type": "email", "extra": {"to": ["a@example.org"], "message": "{{ status }}"}}, "email", "a@example.org", {"message": "{{ status }}"}),
        ("${env.BROKOLI_VAR_HOOK}", "webhook", "${env.BROKOLI_VAR_HOOK}", {}),
        ("https://${param.host}/x?run=1", "webhook", "https://${param.host}/x?run=1", {}),
        ({"url": "https://h.example", "extra": {"secret": "${env.BROKOLI_VAR_S}"}}, "webhook", None, {"secret": "${env.BROKOLI_VAR_S}"}),
        (
            {"url": "https://h.example", "extra": {"headers": {"Authorization": "Bearer ${env.BROKOLI_VAR_TOKEN}"}}},
            "webhook",
            None,
            {"headers": {"Authorization": "Bearer ${env.BROKOLI_VAR_TOKEN}"}},
        ),
    ],
)
def test_what_is_understood(given: Any, kind: hooks.HookKind, url: str | None, extra: dict[str, Any]) -> None:
    for value in (given, [given]):
        problems: list[Problem] = []
        found = read({"hooks": {"on_failure": value}}, problems)
        assert not problems
        assert found == {"on_failure": (Hook(kind, url or given["url"], extra),)}


@pytest.mark.parametrize("value", [None, {}, {"on_failure": None}, {"on_failure": []}, {"on_failure": ""}])
def test_none_at_all(value: Any) -> None:
    problems: list[Problem] = []
    assert read({"hooks": value}, problems) == {}
    assert not problems


def test_a_disabled_hook_is_checked_and_left_out() -> None:
    problems: list[Problem] = []
    assert read({"hooks": {"on_start": {"url": "https://h.example", "enabled": False}}}, problems) == {}
    assert not problems
    assert problems_of({"on_start": {"url": "nonsense", "enabled": False}})


@pytest.mark.parametrize(
    ("value", "pointer", "says"),
    [
        ([], "/hooks", "object of events"),
        ({"on_fail": "https://h.example"}, "/hooks", "There is no event 'on_fail'"),
        ({"on_failure": 5}, "/hooks/on_failure", "not a number"),
        ({"on_failure": ["https://h.example", None]}, "/hooks/on_failure/1", "not null"),
        ({"on_failure": {"type": "pager", "url": "x"}}, "/hooks/on_failure/type", "webhook, slack, email"),
        ({"on_failure": {"urll": "x", "url": "https://h.example"}}, "/hooks/on_failure", "no 'urll'"),
        ({"on_failure": {"url": "https://h.example", "enabled": "yes"}}, "/hooks/on_failure/enabled", "true or false"),
        ({"on_failure": {"url": "https://h.example", "extra": []}}, "/hooks/on_failure/extra", "object"),
        ({"on_failure": {}}, "/hooks/on_failure/url", "needs a url"),
        ({"on_failure": "https://" + "x" * 2000}, "/hooks/on_failure/url", "2000"),
        ({"on_failure": "ftp://h.example"}, "/hooks/on_failure/url", "https://"),
        ({"on_failure": "hooks.example.org"}, "/hooks/on_failure/url", "https://"),
        ({"on_failure": "https://user:canary@h.example"}, "/hooks/on_failure/url", "user or a password"),
        ({"on_failure": "https://h.example/\r\nX: 1"}, "/hooks/on_failure/url", "character"),
        ({"on_failure": "${env.PATH}"}, "/hooks/on_failure/url", "BROKOLI_VAR_"),
        ({"on_failure": "https://h.example/${run.id}"}, "/hooks/on_failure/url", "cannot stand here"),
        ({"on_failure": "https://h.example/${secret.x}"}, "/hooks/on_failure/url", "cannot stand here"),
        ({"on_failure": {"type": "email", "url": "nobody"}}, "/hooks/on_failure/url", "'nobody' is not an email address"),
        ({"on_failure": {"type": "email", "url": "a@example.org\r\nBcc: x@example.org"}}, "/hooks/on_failure/url", "not an email address"),
        ({"on_failure": {"type": "email"}}, "/hooks/on_failure/url", "1 to 20 addresses"),
        ({"on_failure": {"type": "email", "url": ",".join(["a@example.org"] * 21)}}, "/hooks/on_failure/url", "1 to 20 addresses"),
        ({"on_failure": {"url": "https://h.example", "extra": {"secret": "canary"}}}, "/hooks/on_failure/extra/secret", "reference"),
        ({"on_failure": {"url": "https://h.example", "extra": {"secret": "${param.s}"}}}, "/hooks/on_failure/extra/secret", "env.BROKOLI_VAR"),
        ({"on_failure": {"url": "https://h.example", "extra": {"message": 5}}}, "/hooks/on_failure/extra/message", "text"),
        ({"on_start": ["https://h.example"] * 11, "on_success": ["https://h.example"] * 10}, "/hooks", "at most 20 hooks"),
        *(
            ({"on_failure": {"url": "https://h.example", "extra": {"headers": headers}}}, "/hooks/on_failure/extra/headers", says)
            for headers, says in [
                ({"Host": "x"}, "server's own"),
                ({"content-LENGTH": "1"}, "server's own"),
                ({"Transfer-Encoding": "chunked"}, "server's own"),
                ({"Connection": "close"}, "server's own"),
                ({"X-Brokoli-Delivery": "1"}, "server's own"),
                ({"X A": "1"}, "not the name"),
                ({"X-A\r\n": "1"}, "not the name"),
                ({"X-A": "1\r\nX-B: 2"}, "one line"),
                ({"X-A": "1\n"}, "one line"),
                ({"X-A": "\0"}, "one line"),
                ({"X-A": "€"}, "Latin"),
                ({"X-A": 1}, "text"),
                ({"X-A": "${env.HOME}"}, "BROKOLI_VAR_"),
                ([], "object"),
            ]
        ),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(value: Any, pointer: str, says: str) -> None:
    (problem,) = problems_of(value)
    assert (problem.pointer, problem.field) == (pointer, "hooks")
    assert says in problem.message
    assert "canary" not in problem.message


def test_who_is_told_is_shown_without_what_may_be_secret() -> None:
    def shown(given: Any) -> str:
        (hook,) = read({"hooks": {"on_start": given}}, [])["on_start"]
        return receiver(stored(hook))

    assert shown("https://hooks.example.org:8443/services/canary?token=canary#canary") == "hooks.example.org:8443"
    assert shown("https://hooks.example.org?token=canary") == "hooks.example.org"
    assert shown("https://${param.host}/canary") == "${param.host}"
    assert shown("${env.BROKOLI_VAR_HOOK}/canary") == "${env.BROKOLI_VAR_HOOK}"
    assert shown({"type": "email", "url": "a@example.org"}) == "a@example.org"


def test_a_message_names_what_it_tells() -> None:
    values = {"pipeline": "Orders", "error": "{{ pipeline }}", "rows": 5, "run_id": None}
    assert render("{{pipeline}}: {{ error }} {{ rows }} [{{ run_id }}] {{ who }} {x}", values) == "Orders: {{ pipeline }} 5 [] {{ who }} {x}"


def test_what_is_likely_a_mistake_is_warned_of() -> None:
    document = {
        "hooks": {
            "on_failure": {"url": "https://h.example", "extra": {"header": {}, "message": "{{ pipline }}"}},
            "on_success": {"type": "email", "url": "a@example.org"},
        }
    }
    assert not problems_of(document["hooks"])
    found = [problem.message for problem in hooks.warnings(document, mail=False)]
    assert ["header" in found[0], "pipline" in found[1], "BROKOLI_EMAIL_URL" in found[2]] == [True] * 3
    assert len(list(hooks.warnings(document, mail=True))) == 2
