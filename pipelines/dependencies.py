"""What a pipeline needs of others before it runs, and whose end makes it run: `depends_on`, `dependency_rules`. Pure."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from pipelines.problems import Problem, broken, kind_of, list_under, shortened

UpstreamState = Literal["succeeded", "completed", "failed"]
DependencyMode = Literal["gate", "trigger"]

STATES: tuple[UpstreamState, ...] = ("succeeded", "completed", "failed")
MODES: tuple[DependencyMode, ...] = ("gate", "trigger")
MOST_DEPENDENCIES = 100
LONGEST_REFERENCE = 100  # characters of an id or a slug
LONGEST_WITHIN_SECONDS = 366 * 24 * 3600

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class DependencyRule:
    """One upstream pipeline, by id or slug as the document writes it, and how its last ended run must have ended."""

    pipeline_id: str
    state: UpstreamState = "succeeded"
    within_seconds: int | None = None
    mode: DependencyMode = "gate"
    pointer: str = ""  # JSON Pointer in the document, for problems found later

    @property
    def is_short(self) -> bool:
        """Of `depends_on`: a rule in `dependency_rules` about the same pipeline takes its place."""
        return self.pointer.startswith("/depends_on/")


def read(document: Mapping[str, Any], problems: list[Problem]) -> tuple[DependencyRule, ...]:
    """The rules under `depends_on` and `dependency_rules`; what cannot be read is added to `problems`.

    A pipeline that both name has the rule of `dependency_rules`.
    """
    rules: dict[str, DependencyRule] = {}
    for index, raw in enumerate(_list(document, "dependency_rules", problems)):
        rule = _rule(raw, f"/dependency_rules/{index}", problems)
        if rule is not None and rule.pipeline_id in rules:
            problems.append(named_twice(rule))
        elif rule is not None:
            rules[rule.pipeline_id] = rule
    for index, raw in enumerate(_list(document, "depends_on", problems)):
        pointer = f"/depends_on/{index}"
        if _is_reference(raw):
            rules.setdefault(raw, DependencyRule(raw, pointer=pointer))
        else:
            problems.append(broken(f"'depends_on' must list the ids or slugs of pipelines; entry {index + 1} is none.", pointer, field="depends_on"))
    if len(rules) > MOST_DEPENDENCIES:
        message = f"A pipeline depends on at most {MOST_DEPENDENCIES} others; this one on {len(rules)}."
        problems.append(broken(message, "/dependency_rules", field="dependency_rules"))
        return ()
    return tuple(rules.values())


def named_twice(rule: DependencyRule) -> Problem:
    return rule_problem(rule, f"Two rules are about the pipeline '{rule.pipeline_id}'; keep one.")


def rule_problem(rule: DependencyRule, message: str) -> Problem:
    """What is wrong with the upstream that a rule names."""
    if rule.is_short:
        return broken(message, rule.pointer, field="depends_on")
    return broken(message, f"{rule.pointer}/pipeline_id", field="dependency_rules")


def find_cycle(start: _Key, upstreams_of: Callable[[_Key], Collection[_Key]]) -> tuple[_Key, ...]:
    """A way from `start` along its upstreams back to it, `start` at both ends; () when there is none. The shortest one."""
    came_from: dict[_Key, _Key] = {}
    waiting: list[_Key] = [start]
    for key in waiting:  # it grows while we walk: breadth first
        for upstream in upstreams_of(key):
            if upstream == start:
                return (start, *_way(came_from, start, key), start)
            if upstream not in came_from:
                came_from[upstream] = key
                waiting.append(upstream)
    return ()


def _way(came_from: Mapping[_Key, _Key], start: _Key, end: _Key) -> Sequence[_Key]:
    way = []
    while end != start:
        way.append(end)
        end = came_from[end]
    return way[::-1]


def _list(document: Mapping[str, Any], key: str, problems: list[Problem]) -> list[Any]:
    crowded = f"'{key}' names at most {MOST_DEPENDENCIES} pipelines; this one names {{count}}."
    return list_under(document, key, MOST_DEPENDENCIES, crowded, problems)


def _rule(raw: Any, pointer: str, problems: list[Problem]) -> DependencyRule | None:
    before = len(problems)

    def wrong(key: str, rule: str) -> None:
        problems.append(broken(f"A dependency rule's '{key}' must be {rule}.", f"{pointer}/{key}", field="dependency_rules"))

    if not isinstance(raw, Mapping):
        message = f"A dependency rule must be an object with 'pipeline_id', not {kind_of(raw)}."
        problems.append(broken(message, pointer, field="dependency_rules"))
        return None
    reference, within = raw.get("pipeline_id"), raw.get("within_seconds")
    state, mode = (default if raw.get(key) in (None, "") else raw[key] for key, default in (("state", "succeeded"), ("mode", "gate")))
    if not _is_reference(reference):
        wrong("pipeline_id", "the id or the slug of a pipeline")
    if state not in STATES:
        wrong("state", f"one of {', '.join(STATES)}, not {_shown(state)}")
    if mode not in MODES:
        wrong("mode", f"one of {', '.join(MODES)}, not {_shown(mode)}")
    if within is not None and (isinstance(within, bool) or not isinstance(within, int) or not 0 <= within <= LONGEST_WITHIN_SECONDS):
        wrong("within_seconds", f"a whole number of seconds from 0 to {LONGEST_WITHIN_SECONDS}, or null")
    if len(problems) > before:
        return None
    return DependencyRule(str(reference), cast(UpstreamState, state), within or None, cast(DependencyMode, mode), pointer)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_REFERENCE and value == value.strip()


def _shown(value: Any) -> str:
    return f"'{shortened(value)}'" if isinstance(value, str) else kind_of(value)
