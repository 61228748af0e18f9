"""Which adapters are installed: found by entry points, loaded when first asked for, broken ones told apart."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import attrs
import pytest

from maildaemon_core.engine.plugins import (
    DESTINATIONS,
    OPENERS,
    SOURCES,
    STORES,
    Openers,
    Registry,
    installed_destinations,
    installed_sources,
    installed_stores,
)
from maildaemon_core.errors import BrokenPlugin, UnknownKind
from maildaemon_core.ports import Kind, MailSource
from maildaemon_core.store_port import Store
from tests.core.boxes import BoxOpener


@attrs.frozen
class Settings:
    pass


def opened(options: object, settings: Settings, spool: object) -> MailSource:
    raise AssertionError("nothing is opened here")


KIND: Kind[Settings, MailSource] = Kind(settings=Settings, open=opened)
NOT_A_KIND = "not a kind"


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=SOURCES)


GOOD = point("good", f"{__name__}:KIND")
BROKEN = [
    point("missing", "maildaemon_never_was:KIND"),
    point("nameless", f"{__name__}:NO_SUCH_NAME"),
    point("wrong", f"{__name__}:NOT_A_KIND"),
]


def registry(*entries: EntryPoint, **kinds: Kind[Settings, MailSource]) -> Registry[MailSource]:
    return Registry(SOURCES, entries=entries, **kinds)


def test_a_kind_is_found_by_its_name() -> None:
    assert registry(GOOD).kind("good") is KIND
    assert registry(given=KIND).kind("given") is KIND
    assert registry(GOOD, given=KIND).names() == ["given", "good"]


def test_what_is_given_takes_the_place_of_what_is_installed() -> None:
    assert registry(point("good", "maildaemon_never_was:KIND"), good=KIND).kind("good") is KIND


def test_an_unknown_name_answers_with_what_is_installed_and_what_to_do() -> None:
    with pytest.raises(UnknownKind) as caught:
        registry(GOOD, *BROKEN).kind("pigeon")
    assert caught.value.message == "no source named 'pigeon'; installed: good, missing, nameless, wrong"
    assert "install the plug-in that brings a source of that name" in caught.value.remedy
    assert "pip" not in caught.value.remedy  # whoever made a package of that name up would be trusted blindly


def test_a_misspelt_name_answers_with_the_one_that_was_meant() -> None:
    with pytest.raises(UnknownKind) as caught:
        registry(GOOD, *BROKEN).kind("goood")
    assert caught.value.remedy == "did you mean 'good'?"
    with pytest.raises(UnknownKind, match="no store named 'x'; installed: none"):
        Registry(STORES, entries=()).kind("x")


@pytest.mark.parametrize("entry", BROKEN, ids=lambda entry: entry.name)
def test_a_broken_one_names_itself_and_harms_nobody_else(entry: EntryPoint) -> None:
    sources = registry(GOOD, *BROKEN)
    with pytest.raises(BrokenPlugin) as caught:
        sources.kind(entry.name)
    assert repr(entry.name) in caught.value.message
    assert caught.value.remedy
    assert sources.kind("good") is KIND


def test_one_that_ends_the_process_when_it_is_imported_is_only_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maildaemon_script.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BrokenPlugin, match="SystemExit"):
        registry(point("script", "maildaemon_script:KIND")).kind("script")


def test_all_are_told_with_the_fault_of_those_that_have_one() -> None:
    told = {plugin.name: plugin.fault for plugin in registry(GOOD, *BROKEN).plugins()}
    assert told["good"] is None
    assert all(told[entry.name] for entry in BROKEN)
    assert len(told) == 4


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    sys.modules.pop("tests.engine.lazily", None)
    sources = registry(point("lazy", "this.module.would.fail:KIND"), GOOD)
    assert "lazy" in sources.names()
    sources.kind("good")


def test_one_of_ours_without_its_extra_names_the_line_to_install() -> None:
    sources = registry(point("imap", "maildaemon_never_was:KIND"))
    with pytest.raises(BrokenPlugin) as caught:
        sources.kind("imap")
    assert "'maildaemon_never_was'" in caught.value.message
    assert caught.value.remedy == "pip install 'maildaemon[imap]'"
    stores: Registry[Store] = Registry(STORES, entries=[EntryPoint("sqlite", "maildaemon_never_was:KIND", STORES)])
    with pytest.raises(BrokenPlugin) as caught:
        stores.kind("sqlite")
    assert caught.value.remedy == "pip install 'maildaemon[sql]'"


def test_the_groups_have_the_names_that_plugin_authors_were_told() -> None:
    assert (SOURCES, DESTINATIONS, STORES) == ("maildaemon.sources", "maildaemon.destinations", "maildaemon.stores")
    for registry_ in (installed_sources(), installed_destinations(), installed_stores()):
        assert isinstance(registry_.names(), list)


# Openers --------------------------------------------------------------------------------------------------------------

OPENER = BoxOpener(name="box")
A_CLASS = BoxOpener


def opener_point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=OPENERS)


BROKEN_OPENERS = [
    opener_point("missing", "maildaemon_never_was:OPENER"),
    opener_point("wrong", f"{__name__}:NOT_A_KIND"),
    opener_point("classy", f"{__name__}:A_CLASS"),
]


def test_broken_openers_are_told_apart_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    openers = Openers(entries=[*BROKEN_OPENERS, opener_point("box", f"{__name__}:OPENER")])
    assert list(openers.working()) == [OPENER]
    assert set(openers.broken()) == {"missing", "wrong", "classy"}
    assert {plugin.name: plugin.fault is None for plugin in openers.plugins()} == {
        "box": True, "classy": False, "missing": False, "wrong": False,
    }  # fmt: skip
    assert "a class, where an object is wanted" in openers.broken()["classy"].message
    assert all(error.remedy for error in openers.broken().values())
    assert openers.working() is openers.working()
    assert len(caplog.records) == 3, "the log is told once"


def test_given_openers_take_the_place_of_those_that_are_installed() -> None:
    assert Openers([OPENER]).working() == (OPENER,)
    assert Openers([]).working() == ()
    assert Openers([]).names() == []
    assert [*Openers().names()] == [*installed(OPENERS)]


def installed(group: str) -> list[str]:
    return sorted(entry.name for entry in entry_points(group=group))
