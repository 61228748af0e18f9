"""The API's page: its files, and who gets them; in a browser it opens, takes a key and calls, all on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import attrs
import pytest
from playwright.sync_api import Locator, Page, expect

from maildaemon_http.api import page
from maildaemon_http.api.page import OPEN_PATHS
from tests.http.api.house import House
from tests.http.api.served import served
from tests.servers.browser import Window, window

FILES = sorted(OPEN_PATHS - {"/", "/page"})
PAGE = (Path(page.__file__).with_name("page") / "page.html").read_text(encoding="utf-8")


@attrs.frozen
class Site:
    """A service on a port of its own; ``key`` and ``another`` open it."""

    origin: str
    key: str
    another: str

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
        """What is answered to this very path; a client for people would have tidied it up before."""
        connection = HTTPConnection(self.origin.removeprefix("http://"), timeout=20)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    house = House(tmp_path_factory.mktemp("house"))
    with served(house.app) as origin:
        yield Site(origin, house.key(name="first"), house.key(name="second"))
    house.store.close()


# ------------------------------------------------------------------------------------------------------------- files


def test_the_root_leads_to_the_page_and_the_page_lets_nothing_in_but_its_own(site: Site) -> None:
    answer, _ = site.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/page")
    answer, body = site.get("/page")
    assert answer.status == 200
    assert body.decode() == PAGE
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("unsafe" in rule or "http" in rule for rule in policy)


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_sent_once_and_then_only_when_it_has_changed(site: Site, path: str) -> None:
    answer, body = site.get(path)
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.status == 200
    assert body
    assert answer.headers["content-type"].startswith(types[Path(path).suffix])
    assert answer.headers["cache-control"] == "no-cache"
    etag = answer.headers["etag"]
    for had in (etag, f'"other", W/{etag}', "*"):
        again, nothing = site.get(path, if_none_match=had)
        assert (again.status, nothing, again.headers["etag"]) == (304, b"", etag)
    assert site.get(path, if_none_match='"other"')[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/pagefoo",
        "/page/",
        "/page.html",
        "//page",
        "/page/page.html",
        "/page/nothing.js",
        "/page/../mailboxes",
        "/page/%2e%2e/mailboxes",
        "/page/page.js/../../../mailboxes",
        "/page/..%2f..%2fpage.py",
        "/page/swagger-ui.css.map",
        "/openapi.json",
    ],
)
def test_nothing_but_the_page_and_its_files_is_open_without_a_key(site: Site, path: str) -> None:
    assert site.get(path)[0].status == 401


@pytest.mark.parametrize(
    "name", ["page.html", "missing.html", "..%2fpage.py", "%2e%2e%2fpage.py", "..", "%2fetc%2fpasswd", "PAGE.JS", "%00"]
)
def test_whoever_has_a_key_gets_no_other_files_either(site: Site, name: str) -> None:
    answer, body = site.get(f"/page/{name}", x_api_key=site.key)
    assert answer.status == 404
    assert b"urn:maildaemon:problem:not-found" in body


def test_the_page_is_no_operation_of_the_document(site: Site) -> None:
    _, body = site.get("/openapi.json", x_api_key=site.key)
    assert b'"/mailboxes"' in body
    assert b'"/page' not in body
    assert b'"/"' not in body.replace(b'"url": "/"', b"")


class Marks(HTMLParser):
    """What a page loads, and what it has in itself of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.loaded += [value for name in ("src", "href") if (value := named.get(name))]
        self.inline += [name for name in named if name.startswith("on") or name == "style"]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in named) else []


@pytest.mark.parametrize("name", ["page.html", "missing.html"])
def test_a_page_loads_only_what_is_open_and_has_no_script_in_itself(name: str) -> None:
    marks = Marks(Path(page.__file__).with_name("page").joinpath(name).read_text(encoding="utf-8"))
    assert marks.loaded
    assert set(marks.loaded) <= OPEN_PATHS
    assert marks.inline == []


def test_without_swagger_ui_the_page_says_so_and_the_api_is_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, page.PACKAGE, None)  # so Python is told that there is no such package
    house = House(tmp_path)
    with house.client() as client:
        said = client.get("/page")
        assert said.status_code == 503
        assert "needs the Python package <code>swagger-ui-py</code>" in said.text
        assert client.get("/page/page.css").status_code == 200
        assert client.get("/page/swagger-ui-bundle.js").status_code == 404
        assert client.get("/mailboxes").status_code == 200
    house.store.close()


def test_the_package_that_brings_swagger_ui_is_never_imported() -> None:
    assert page.installed_swagger() is not None
    assert page.PACKAGE not in sys.modules


# ----------------------------------------------------------------------------------------------------- in a browser

STATUS = "tbody .response-col_status"
UNAUTHORISED = "the server responded with a status of 401"


@pytest.fixture
def browser(site: Site) -> Iterator[Window]:
    with window() as opened:
        yield opened
        asked = [url for url in opened.asked if not url.startswith("data:")]
        assert len(asked) >= len(FILES)
        assert [url for url in asked if not url.startswith(f"{site.origin}/")] == []


def enter(shown: Page, key: str) -> None:
    """Types a key where the focus is, without a mouse."""
    shown.keyboard.type(key)
    shown.keyboard.press("Enter")


def operation(shown: Page, name: str) -> Locator:
    return shown.locator(f"[id$='-{name}']")


def call(shown: Page, name: str) -> Locator:
    """Calls an operation as it stands, for the first time; gives what was answered."""
    block = operation(shown, name)
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    return execute(block)


def execute(block: Locator) -> Locator:
    block.get_by_role("button", name="Execute", exact=True).click()
    return block.locator(".live-responses-table")


@pytest.mark.server
def test_the_page_refuses_a_wrong_key_in_words_and_shows_and_calls_the_operations_with_a_good_one(
    site: Site, browser: Window, tmp_path: Path
) -> None:
    shown = browser.page
    shown.goto(f"{site.origin}/")
    expect(shown).to_have_url(f"{site.origin}/page")
    expect(shown.get_by_label("API key")).to_be_focused()

    enter(shown, "käse")
    expect(shown.get_by_role("alert")).to_have_text("An API key has letters, digits, - and _ only.")
    enter(shown, f"{site.key[:-4]}none")
    expect(shown.get_by_role("alert")).to_have_text("The API key is not valid.")
    expect(shown.get_by_label("API key")).to_be_focused()
    assert [said for said in browser.complaints if UNAUTHORISED not in said] == []
    browser.complaints.clear()

    enter(shown, site.key)  # what was typed before is selected, and replaced
    expect(shown.get_by_role("heading", name="Maildaemon API")).to_be_visible()
    expect(shown.get_by_label("Operations")).to_be_focused()
    for summary in (
        "create mailbox configuration",
        "list all mailbox configurations",
        "get a mailbox configuration via given uuid",
        "update an existing mailbox",
        "delete an existing mailbox",
        "validate the connection to the email and destination server",
        "get all entries from failed processed emails",
        "get all entries from successful processed emails",
        "get all entries from MailboxInfo",
        "delete monitoring entry",
    ):
        expect(shown.get_by_text(summary, exact=True)).to_be_visible()
    picture = tmp_path / "operations.png"
    shown.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 10_000

    answered = call(shown, "list_mailboxes")
    expect(answered.locator(STATUS)).to_have_text("200")
    expect(answered.locator(".highlight-code").first).to_contain_text('"items": []')
    shown.screenshot(path=tmp_path / "called.png")
    assert browser.complaints == []


@pytest.mark.server
def test_the_key_is_nowhere_to_be_read_and_gone_with_the_page(site: Site, browser: Window) -> None:
    shown = browser.page
    shown.goto(f"{site.origin}/page")
    enter(shown, site.key)
    expect(call(shown, "list_mailboxes").locator(STATUS)).to_have_text("200")
    expect(operation(shown, "list_mailboxes").locator(".curl-command")).to_contain_text("x-api-key: YOUR_API_KEY")
    assert site.key not in shown.content()
    assert [url for url in browser.asked if site.key in url] == []
    assert shown.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    shown.get_by_role("button", name="Forget the key").click()
    expect(shown.get_by_label("API key")).to_be_focused()
    expect(shown.get_by_label("API key")).to_have_value("")
    expect(shown.get_by_label("Operations")).to_be_hidden()


@pytest.mark.server
def test_the_authorisation_of_swagger_ui_takes_the_key_away_and_another_one_on(site: Site, browser: Window) -> None:
    shown = browser.page
    shown.goto(f"{site.origin}/page")
    enter(shown, site.key)
    shown.get_by_role("button", name="Authorize").click()
    dialog = shown.locator(".modal-ux")
    dialog.get_by_role("button", name="Remove authorization").click()
    dialog.get_by_role("button", name="Close").first.click()
    status = call(shown, "list_mailboxes").locator(STATUS)
    expect(status).to_contain_text("401")

    shown.get_by_role("button", name="Authorize").click()
    bearer = dialog.locator(".auth-container", has_text="bearer token")
    bearer.locator("input").fill(site.another)
    bearer.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").first.click()
    execute(operation(shown, "list_mailboxes"))
    expect(status).to_have_text("200")
    assert site.another not in shown.content()
    expect(operation(shown, "list_mailboxes").locator(".curl-command")).to_contain_text("Bearer YOUR_API_KEY")
