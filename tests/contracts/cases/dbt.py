"""`dbt`, with a program in place of the user's own that says what a real dbt said (`tests/dbt_program`)."""

import json
from collections.abc import Callable

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ORDERS = "SELECT * FROM (VALUES (1, 'Ann'), (2, NULL)) t(id, name)"


def said(level: str, message: str, **data: object) -> str:
    return json.dumps({"info": {"level": level, "msg": message}, "data": data}) + "\n"


RECORDED = (
    said("info", "Running with dbt=1.10.0")
    + said("info", "1 of 2 START sql view model main.stg ... [RUN]", index=1, total=2)
    + said("info", "1 of 2 OK created sql view model main.stg ... [OK in 0.05s]", index=1, total=2, execution_time=0.05)
    + said("debug", "not shown")
    + said("info", "2 of 2 OK created sql table model main.late ... [OK in 0.02s]", index=2, total=2, execution_time=0.02)
)
GOOD = [
    {"unique_id": "model.flights.stg", "status": "success", "execution_time": 0.05, "message": "OK"},
    {"unique_id": "model.flights.late", "status": "success", "execution_time": 0.02, "message": "OK"},
]
BAD = [
    {**GOOD[0], "status": "error", "message": "Runtime Error in model stg\n  Catalog Error: Table with name fligths does not exist!"},
    {**GOOD[1], "status": "skipped", "message": None},
    {
        "unique_id": "test.flights.not_null_stg_id.abc",
        "status": "fail",
        "execution_time": 0.1,
        "message": "Got 3 results",
    },
]


def project(**files: str) -> Callable[[Workshop], None]:
    """`exit="1"` writes the file `exit` of the project."""

    def write(workshop: Workshop) -> None:
        folder = workshop.folder / "project"
        folder.mkdir(exist_ok=True)
        (folder / "dbt_project.yml").write_text("name: flights\nprofile: flights\n")
        for name, content in files.items():
            (folder / {"recorded": "recorded.jsonl", "results": "run_results.json"}.get(name, name)).write_text(content)

    return write


def results(found: list[dict[str, object]]) -> str:
    return json.dumps({"results": found})


def typical(workshop: Workshop, table: str) -> Given:
    project()(workshop)
    return Given({"project_dir": "project"}, [table])


def slow(workshop: Workshop) -> Given:
    project(sleeps="")(workshop)
    return Given({"project_dir": "project"}, [ORDERS])


CONFIG = {"project_dir": "project"}
CASES = Cases(
    typical=typical,
    slow=slow,
    valid=[
        Valid(
            CONFIG,
            before=project(recorded=RECORDED, results=results(GOOD)),
            columns=["unique_id", "name", "resource_type", "status", "execution_time", "message"],
            rows=[("model.flights.stg", "stg", "model", "success", 0.05, "OK"), ("model.flights.late", "late", "model", "success", 0.02, "OK")],
            logged=["info: Running with dbt=1.10.0", "progress: 0.5 1 of 2 done", "progress: 1.0 2 of 2 done"],
            name="what became of each model",
        ),
        Valid(CONFIG, [ORDERS], before=project(), rows=[(1, "Ann"), (2, None)], name="its input passes through"),
        Valid({**CONFIG, "command": "parse"}, before=project(), rows=[], name="a command without results"),
        Valid(
            {**CONFIG, "command": "build --fail-fast", "select": "stg+ tag:daily", "target": "prod", "vars": {"day": "2024-01-15"}},
            before=project(shows_itself=""),
            logged=["'--log-format json build --fail-fast --target prod --select stg+ tag:daily --vars".replace("'--log-format json ", "dbt ")],
            name="its arguments",
        ),
    ],
    invalid=[
        Invalid({}, field="project_dir", words="is missing"),
        Invalid({**CONFIG, "command": "run-operation drop"}, field="command", words="is not a command that is run here"),
        Invalid({**CONFIG, "command": "run --profiles-dir /etc"}, field="command", words="cannot follow the command"),
        Invalid({**CONFIG, "select": "--profiles-dir=/etc"}, field="select", words="is no selector"),
        Invalid({**CONFIG, "target": "a b"}, field="target"),
        Invalid({**CONFIG, "env": {"A B": "x"}}, field="env", words="cannot be a variable"),
        Invalid({"project_dir": "../x"}, field="project_dir", words="must not contain '..'"),
        Invalid({"project_dir": "/etc"}, field="project_dir", words="outside the data folders", at_save=False),
        Invalid({**CONFIG, "output_model": "stg"}, field="output_model"),
    ],
    failing=[
        Failing(
            CONFIG,
            before=project(recorded=RECORDED, results=results(BAD), exit="1"),
            words=["dbt run failed. model stg: Runtime Error in model stg Catalog Error", "test not_null_stg_id: Got 3 results"],
        ),
        Failing(CONFIG, before=project(recorded=said("error", "Could not find profile named 'flights'"), exit="2"), words=["Could not find profile"]),
        Failing(CONFIG, before=project(results="{", exit="0"), words=["run_results.json that is not valid JSON"]),
    ],
    normalised=[(CONFIG, CONFIG)],
)
