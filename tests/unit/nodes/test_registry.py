"""The registry: what it finds, what it refuses, and the sentences that it says then."""

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest
from pydantic import Field

from pipelines.checks import check_node_types
from pipelines.nodes import registry
from pipelines.nodes.base import NodeConfig, NodeContext, NodeType, PassThrough, Ports, Result, RunFacts
from pipelines.spec import NodeSpec
from tests.node_types import forget_types

FACTS = RunFacts(run_id="r", pipeline_id="p", pipeline_name="P", params={})


class EchoConfig(NodeConfig):
    times: int = Field(ge=1)


class Echo(NodeType):
    name = "echo"
    label = "Echo"
    category = "transform"
    help = "Gives back what it got."
    ports = Ports(1, 1)
    Config = EchoConfig

    def run(self, context: NodeContext) -> Result:
        return PassThrough()


class NoRun(NodeType):
    name = "no_run"
    label = "No run"
    category = "transform"
    help = "Cannot run."
    ports = Ports(1, 1)
    Config = EchoConfig


class NotOurs:
    name = "not_ours"


class ForeignConfig(Echo):
    name = "foreign_config"
    Config = dict  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    forget_types()
    yield
    forget_types()


def install(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    """Make the entry points of an installed package: name = attribute of this module."""
    points = [EntryPoint(name.rstrip("_"), f"{__name__}:{target}", registry.ENTRY_POINT_GROUP) for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.ENTRY_POINT_GROUP else [])


def test_every_listed_type_loads_under_its_own_name() -> None:
    types = registry.all()
    assert [one.name for one in types] == list(registry.names()) == sorted(registry.names())
    assert all(registry.get(one.name) is one for one in types if not registry.is_disabled(one.name))


def test_a_third_party_type_is_found_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, echo="Echo")
    assert isinstance(registry.get("echo"), Echo)
    assert "echo" in registry.names()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("NotOurs", "is not a class derived from NodeType"),
        ("Absent", "cannot be loaded from"),
        ("Echo", "calls itself 'echo'; both names must be the same"),
        ("NoRun", "does not define run"),
        ("ForeignConfig", "is not derived from NodeConfig"),
        ("FACTS", "is not a class derived from NodeType"),
    ],
)
def test_what_is_no_node_type_is_refused(monkeypatch: pytest.MonkeyPatch, target: str, says: str) -> None:
    name = {"NoRun": "no_run", "ForeignConfig": "foreign_config"}.get(target, "other")
    install(monkeypatch, **{name: target})
    with pytest.raises(registry.InvalidNodeType, match=says) as caught:
        registry.get(name)
    assert f"'{name}'" in caught.value.message


def test_an_entry_point_does_not_take_the_place_of_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._OWN, "echo", f"{__name__}:Echo")
    install(monkeypatch, echo="NotOurs")
    assert isinstance(registry.get("echo"), Echo)
    (fault,) = registry.faults()
    assert re.fullmatch(r"Node type 'echo' is registered twice: by .*:Echo and by .*:NotOurs\. The package's is not used\.", fault)


def test_a_name_that_two_packages_use_stands_for_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, echo="Echo", echo_="NotOurs")
    with pytest.raises(registry.InvalidNodeType, match="registered twice"):
        registry.get("echo")
    assert len(registry.faults()) == 1


def test_what_is_broken_does_not_take_the_rest_along(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint(name, target, registry.ENTRY_POINT_GROUP) for name, target in (("echo", f"{__name__}:Echo"), ("bad", "tests.unit.nodes:x"))]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert {one.name for one in registry.all()} == {*registry._OWN, "echo"}
    assert [fault.partition(": ")[0] for fault in registry.faults()] == ["Node type 'bad' cannot be loaded from tests.unit.nodes:x"]
    (warning,) = check_node_types()
    assert (warning.id, warning.msg) == ("pipelines.W001", registry.faults()[0])


def test_a_package_that_fails_at_import_is_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = []

    def load(self: EntryPoint) -> object:
        imports.append(self.name)
        raise RuntimeError("no licence")

    monkeypatch.setattr(EntryPoint, "load", load)
    install(monkeypatch, echo="Echo")
    for _ in range(2):
        with pytest.raises(registry.InvalidNodeType, match=r"'echo' cannot be loaded from .*: RuntimeError: no licence"):
            registry.get("echo")
    assert imports == ["echo"]


def test_an_unknown_type_names_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, echo="Echo")
    with pytest.raises(registry.UnknownNodeType, match=r"There is no node type .ecko.\. Did you mean .echo.") as caught:
        registry.get("ecko")
    assert caught.value.status == 422
    with pytest.raises(registry.UnknownNodeType, match=r"Known types: .*echo"):
        registry.get("zzzzzz")


def test_a_disabled_type_is_refused_with_its_own_sentence_and_still_listed(monkeypatch: pytest.MonkeyPatch, settings: object) -> None:
    install(monkeypatch, echo="Echo")
    settings.DISABLED_NODE_TYPES = ("echo", "bash")  # type: ignore[attr-defined]
    assert registry.is_disabled("echo")
    assert "echo" in [one.name for one in registry.all()]
    with pytest.raises(registry.DisabledNodeType, match=r"'echo' is turned off on this server.*BROKOLI_DISABLED_NODE_TYPES") as caught:
        registry.get("echo")
    assert caught.value.status == 422
    with pytest.raises(registry.DisabledNodeType):
        registry.prepare(NodeSpec("n", "bash", "N"), FACTS)


def test_prepare_gives_a_validated_config_or_names_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, echo="Echo")
    node_type, config = registry.prepare(NodeSpec("n", "echo", "N", {"times": 2, "kept": "x"}), FACTS)
    assert (node_type.name, config.model_dump()) == ("echo", {"times": 2, "kept": "x"})
    with pytest.raises(Exception, match=r"Field 'times' must be 1 or more\."):
        registry.prepare(NodeSpec("n", "echo", "N", {"times": 0}), FACTS)
