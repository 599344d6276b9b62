"""`bash`."""

from tests.contracts.case import Cases, Failing, Given, Invalid, Valid
from tests.contracts.workshop import Workshop

ORDERS = "SELECT * FROM (VALUES (1, 'Ann'), (2, NULL)) t(id, name)"


def _typical(workshop: Workshop, table: str) -> Given:
    return Given({"command": "true"}, [table])


def _slow(workshop: Workshop) -> Given:
    return Given({"command": "sleep 60"}, [ORDERS])


def _folder(workshop: Workshop) -> None:
    (workshop.folder / "work").mkdir()
    (workshop.folder / "work" / "here.txt").write_text("x")


CASES = Cases(
    typical=_typical,
    slow=_slow,
    valid=[
        Valid({"command": "echo hello"}, [ORDERS], rows=[(1, "Ann"), (2, None)], logged=["info: hello"], name="its input passes through"),
        Valid({"command": "echo a; echo b"}, columns=["exit_code", "stdout"], types=["INTEGER", "VARCHAR"], rows=[(0, "a\nb")], name="no input"),
        Valid({"command": "true"}, rows=[(0, "")], name="nothing printed"),
        Valid({"command": "echo '#ERROR: e' >&2; echo plain >&2"}, [ORDERS], logged=["error: e", "warning: plain"], name="stderr"),
        Valid(
            {"command": 'echo "$WHO ${NUMBER} $YES"', "env": {"WHO": "${param.x}", "NUMBER": 5, "YES": True}},
            rows=[(0, "$(id); 5 true")],
            params={"x": "$(id);"},
            name="values are variables, never a part of the command",
        ),
        Valid({"command": "ls", "working_dir": "work"}, rows=[(0, "here.txt")], before=_folder, name="a folder to work in"),
        Valid({"command": "pwd | grep -c home; ls -A | wc -l"}, rows=[(0, "1\n0")], name="an empty folder of its own"),
        Valid(
            {"command": "env | cut -d= -f1 | sort | grep -vE '^(_|SHLVL|PWD)$' | tr '\\n' ' '"},
            logged=["ARROW_DEFAULT_MEMORY_POOL HOME JE_ARROW_MALLOC_CONF LANG OMP_NUM_THREADS OPENBLAS_NUM_THREADS PATH TMPDIR TZ"],
            name="a clean environment",
        ),
    ],
    invalid=[
        Invalid({}, field="command", words="is missing"),
        Invalid({"command": "a\0b"}, field="command", words="NUL"),
        Invalid({"command": "true", "env": {"A B": "x"}}, field="env", words="cannot be the name of a variable"),
        Invalid({"command": "true", "working_dir": "../x"}, field="working_dir", words="must not contain '..'"),
        Invalid({"command": "true", "working_dir": "/etc"}, field="working_dir", words="outside the data folders", at_save=False),
        Invalid({"command": "true", "working_dir": "nowhere"}, field="working_dir", words="There is no folder 'nowhere'", at_save=False),
    ],
    failing=[
        Failing({"command": "echo why >&2; exit 3"}, [ORDERS], words=["exit code 3", "why"]),
        Failing({"command": "false"}, [ORDERS], words=["The command ended with exit code 1."]),
        Failing({"command": "nonsense-program"}, [ORDERS], words=["exit code 127", "not found"]),
        Failing({"command": "kill -SEGV $$"}, [ORDERS], words=["signal SIGSEGV"]),
    ],
    normalised=[({"command": "true", "x": 2}, {"command": "true", "x": 2})],
)
