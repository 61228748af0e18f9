"""Who may send, and what may be attached: no look-alike gets in, and no spelling keeps a friend out."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from maildaemon_core.filters import (
    MAX_PATTERN,
    Unwanted,
    Wanted,
    attachment_pattern_fault,
    attachment_verdict,
    sender_pattern_fault,
    sender_verdict,
)
from maildaemon_core.testing.strategies import hostile_names, texts

LABEL = st.text("abcxyz019äöüéñж", min_size=1, max_size=6)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
LOCAL = st.text("abcxyz.+-ü", min_size=1, max_size=8)
ADDRESS = st.builds(lambda local, domain: f"{local}@{domain}", LOCAL, DOMAIN)
SENDER_PATTERN = st.one_of(ADDRESS, DOMAIN, DOMAIN.map("@{}".format), DOMAIN.map(".{}".format))
ANY_PATTERN = st.one_of(SENDER_PATTERN, hostile_names())
TYPE = st.sampled_from(["application/pdf", "image/png", "image/jpeg", "text/plain", "application/octet-stream"])
NAME = st.text("abcAB012-_. üÜ", min_size=1, max_size=12).filter(lambda text: text.strip(" .-_"))
ATTACHMENT_PATTERN = st.one_of(
    st.sampled_from(["pdf", ".PDF", "tar.gz", "invoice-*.pdf", "*", "?.txt", "image/*", "application/pdf", "*/*"]),
    st.text("abc012.*?-", min_size=1, max_size=10),
)


def lets_in(sender: str, *allowed: str) -> bool:
    return isinstance(sender_verdict(sender, allowed), Wanted)


def takes(name: str | None, content_type: str, *allowed: str) -> bool:
    return isinstance(attachment_verdict(name, content_type, allowed), Wanted)


# --- senders


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("jane@firm.de", ["jane@firm.de", "JANE@Firm.DE"], ["joe@firm.de", "jane@mail.firm.de", "mary.jane@firm.de"]),
        (
            "@firm.de",
            ["jane@firm.de", "joe@firm.de."],
            ["jane@mail.firm.de", "jane@evil-firm.de", "jane@firm.de.evil.com"],
        ),
        (
            "firm.de",
            ["jane@firm.de", "jane@a.mail.firm.de"],
            ["jane@evil-firm.de", "firm.de@evil.com", "jane@firm.dev"],
        ),
        (".de", ["jane@firm.de", "jane@a.b.de"], ["jane@firm.xde", "jane@de.com", "jane@de"]),
        (".firm.de", ["jane@mail.firm.de"], ["jane@firm.de", "jane@evil-firm.de"]),
        ("bücher.de", ["x@xn--bcher-kva.de", "x@BÜCHER.de", "x@bu\u0308cher.de", "x@a.bücher。de"], ["x@bucher.de"]),
        ("@XN--BCHER-KVA.DE", ["x@bücher.de"], ["x@a.bücher.de"]),
        ("straße.de", ["x@straße.de", "x@xn--strae-oqa.de", "x@STRAẞE.de"], ["x@strasse.de"]),
        ("firm.de", ["x@evil.firm.de"], ["x@evil\u2024firm.de", "x@evil／firm.de"]),
    ],
)
def test_a_pattern_is_an_address_a_domain_or_its_end(pattern: str, yes: list[str], no: list[str]) -> None:
    assert sender_pattern_fault(pattern) is None
    assert [sender for sender in yes if not lets_in(sender, pattern)] == []
    assert [sender for sender in no if lets_in(sender, pattern)] == []


@given(LOCAL, DOMAIN, st.sampled_from(["{}", "@{}"]), st.sampled_from(["evil-", "evil", "x", "ü"]))
def test_a_domain_that_only_ends_alike_is_another_domain(local: str, domain: str, form: str, evil: str) -> None:
    assume(sender_pattern_fault(form.format(domain)) is None)
    assert lets_in(f"{local}@{domain}", form.format(domain))
    assert not lets_in(f"{local}@{evil}{domain}", form.format(domain))
    assert not lets_in(f"{local}@{domain}.evil-z", form.format(domain))


@given(ADDRESS)
def test_an_address_is_let_in_by_itself_its_domain_and_each_end_of_it(address: str) -> None:
    domain = address.partition("@")[2]
    labels = domain.split(".")
    for pattern in (address, f"@{domain}", *(".".join(labels[at:]) for at in range(len(labels)))):
        assert lets_in(address, pattern) or sender_pattern_fault(pattern)
    for at in range(1, len(labels)):
        assert lets_in(address, "." + ".".join(labels[at:]))
    assert not lets_in(f"a{address}", address)


def test_an_address_that_is_too_long_is_not_read_up_to_where_it_would_please() -> None:
    start = ("b" + "a." * 500)[:993] + "firm.de"
    assert lets_in(f"x@{start[-901:]}", "firm.de")
    assert not lets_in(f"x@{start}.evil.com", "firm.de")


@given(hostile_names() | ADDRESS)
def test_without_patterns_everybody_is_let_in(sender: str) -> None:
    assert lets_in(sender)


@given(
    st.lists(ANY_PATTERN, min_size=1, max_size=4),
    st.sampled_from(["", "jane", "@", "jane@", "@firm.de", "jane@.", "a@b..c"]),
)
def test_a_sender_that_cannot_be_read_is_refused_as_soon_as_there_is_a_list(allowed: list[str], sender: str) -> None:
    verdict = sender_verdict(sender, allowed)
    assert isinstance(verdict, Unwanted)
    assert "cannot be read" in verdict.reason


@given(ADDRESS | hostile_names(), st.lists(ANY_PATTERN, min_size=1), st.lists(ANY_PATTERN))
def test_more_sender_patterns_never_shut_anybody_out(sender: str, allowed: list[str], more: list[str]) -> None:
    if lets_in(sender, *allowed):
        assert lets_in(sender, *more, *allowed)
        assert lets_in(sender, *allowed, *more)


@given(ADDRESS, st.lists(SENDER_PATTERN, max_size=3))
def test_case_of_sender_and_pattern_never_matters(sender: str, allowed: list[str]) -> None:
    verdict = lets_in(sender, *allowed)
    assert lets_in(sender.upper(), *allowed) == verdict
    assert lets_in(sender, *(pattern.upper() for pattern in allowed)) == verdict


@given(ADDRESS)
def test_a_domain_is_the_same_in_both_of_its_spellings(address: str) -> None:
    local, _, domain = address.partition("@")
    ascii_ = domain.encode("idna").decode()
    assert lets_in(address, f"@{ascii_}")
    assert lets_in(f"{local}@{ascii_}", address)


@given(hostile_names(), st.lists(hostile_names(), min_size=1, max_size=3))
@example("jane@" + "ü" * 5000 + ".de", ["firm.de"])
def test_any_text_has_a_sender_verdict_that_can_be_printed(sender: str, allowed: list[str]) -> None:
    verdict = sender_verdict(sender, allowed)
    assert isinstance(verdict, Wanted) or (verdict.reason.isprintable() and len(verdict.reason) < 1500)
    for pattern in allowed:
        fault = sender_pattern_fault(pattern)
        assert fault is None or fault.isprintable()


@given(ADDRESS | hostile_names(), hostile_names())
def test_a_sender_pattern_with_a_fault_lets_nobody_in(sender: str, pattern: str) -> None:
    if sender_pattern_fault(pattern):
        assert not lets_in(sender, pattern)


@pytest.mark.parametrize("pattern", [".eml", ".msg", "eml", ".PDF", "*.pdf", ".txt", ".docx", ".zip"])
def test_a_file_ending_among_sender_patterns_explains_itself(pattern: str) -> None:
    fault = sender_pattern_fault(pattern)
    assert fault is not None
    assert "endings of sender addresses" in fault
    assert "use allowedAttachments" in fault
    assert pattern in fault


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "empty"),
        (" firm.de", "blanks"),
        ("firm.de\n", "blanks"),
        ("firm .de", "no readable domain"),
        ("firm..de", "no readable domain"),
        ("jane@", "no readable domain"),
        ("@", "no readable domain"),
        (".", "no readable domain"),
        ("a@b@firm.de", "two @"),
        ("*@firm.de", "wildcard"),
        ("*.firm.de", "wildcard"),
        ("jane@.firm.de", "dot after the @"),
        ("a.de,b.de", "more than one"),
        ("<jane@firm.de>", "angle brackets"),
        ("https://firm.de", "not the end of an address"),
        ("x" * (MAX_PATTERN + 1), "characters; use at most"),
        ("\ud800.de", "cannot be seen"),
    ],
)
def test_a_sender_pattern_that_cannot_be_meant_says_why(pattern: str, says: str) -> None:
    fault = sender_pattern_fault(pattern)
    assert fault is not None
    assert says in fault


@given(SENDER_PATTERN)
def test_an_ordinary_sender_pattern_has_no_fault(pattern: str) -> None:
    assert sender_pattern_fault(pattern) is None


# --- attachments


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("pdf", ["a.pdf", "A.PDF", "x.tar.pdf", "a.pdf "], ["pdf.exe", "apdf", "a.pdfx", "a.pdf.exe"]),
        (".pdf", ["a.pdf", "Ä.Pdf"], ["a.xpdf", "a.txt"]),
        ("tar.gz", ["a.tar.gz"], ["a.gz", "atar.gz"]),
        ("invoice-*.pdf", ["invoice-7.pdf", "INVOICE-.PDF"], ["my invoice-7.pdf", "invoice-7.pdf.exe", "invoice.pdf"]),
        ("*2024*.csv", ["2024.csv", "a-2024-b.csv"], ["2023.csv"]),
        ("?.txt", ["a.txt", "ü.txt", "u\u0308.txt"], ["ab.txt", ".txt"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("Überweisung*.pdf", ["U\u0308berweisung 1.pdf", "überweisung.pdf"], ["Uberweisung.pdf"]),
        ("winmail.dat", ["winmail.dat", "WINMAIL.DAT"], ["mail.dat"]),
        ("*:*.pdf", ["Re: offer.pdf"], ["Re offer.pdf"]),
        ("exe", ["invoice\u202efdp.exe", "a.pdf\u200b.exe"], ["a.pdf"]),
    ],
)
def test_an_attachment_is_taken_by_extension_or_glob(pattern: str, yes: list[str], no: list[str]) -> None:
    assert attachment_pattern_fault(pattern) is None
    assert [name for name in yes if not takes(name, "application/x-unheard-of", pattern)] == []
    assert [name for name in no if takes(name, "application/x-unheard-of", pattern)] == []


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("application/pdf", ["application/pdf", "Application/PDF; name=x"], ["application/pdfx", "application/x-pdf"]),
        ("image/*", ["image/png", "IMAGE/x"], ["images/png", "application/image", "image"]),
        ("*/*", ["a/b", ""], []),
    ],
)
def test_an_attachment_is_taken_by_type(pattern: str, yes: list[str], no: list[str]) -> None:
    assert attachment_pattern_fault(pattern) is None
    assert [kind for kind in yes if not takes("x", kind, pattern)] == []
    assert [kind for kind in no if takes("x", kind, pattern)] == []


def test_an_attachment_without_a_name_is_judged_under_the_one_that_it_gets() -> None:
    assert takes(None, "application/pdf", "pdf")
    assert takes("", "application/pdf", "attachment-*.pdf")
    assert not takes(None, "text/html", "pdf")
    assert not takes(None, "application/x-unheard-of", "pdf")


@given(st.none() | hostile_names(), texts())
def test_without_patterns_every_attachment_is_taken(name: str | None, content_type: str) -> None:
    assert takes(name, content_type)


@given(
    NAME | hostile_names(),
    TYPE,
    st.lists(ATTACHMENT_PATTERN, min_size=1),
    st.lists(ATTACHMENT_PATTERN | hostile_names()),
)
def test_more_attachment_patterns_never_refuse_what_was_taken(
    name: str, content_type: str, allowed: list[str], more: list[str]
) -> None:
    if takes(name, content_type, *allowed):
        assert takes(name, content_type, *more, *allowed)
        assert takes(name, content_type, *allowed, *more)


@given(NAME, TYPE, st.lists(ATTACHMENT_PATTERN, max_size=3))
def test_case_of_name_type_and_pattern_never_matters(name: str, content_type: str, allowed: list[str]) -> None:
    verdict = takes(name, content_type, *allowed)
    assert takes(name.upper(), content_type.upper(), *allowed) == verdict
    assert takes(name, content_type, *(pattern.upper() for pattern in allowed)) == verdict


@example("ba", "*a*a*")
@example("ab", "*ab*b*")
@given(st.text("ab.", min_size=1, max_size=8), st.text("ab.*?", min_size=1, max_size=8))
def test_a_glob_means_what_it_means_letter_by_letter(name: str, pattern: str) -> None:
    assume(name.strip(". ") == name and set(pattern) & set("*?"))

    def plainly(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return plainly(pattern[1:], name) or bool(name and plainly(pattern, name[1:]))
        return bool(name) and pattern[0] in ("?", name[0]) and plainly(pattern[1:], name[1:])

    assert takes(name, "x/y", pattern) == plainly(pattern, name)


@given(st.none() | hostile_names(), texts(), st.lists(hostile_names(), min_size=1, max_size=3))
def test_any_text_has_an_attachment_verdict_that_can_be_printed(
    name: str | None, kind: str, allowed: list[str]
) -> None:
    verdict = attachment_verdict(name, kind, allowed)
    assert isinstance(verdict, Wanted) or (verdict.reason.isprintable() and len(verdict.reason) < 3000)
    for pattern in allowed:
        fault = attachment_pattern_fault(pattern)
        assert fault is None or fault.isprintable()


@given(hostile_names(), TYPE, hostile_names())
def test_an_attachment_pattern_with_a_fault_takes_nothing(name: str, content_type: str, pattern: str) -> None:
    if attachment_pattern_fault(pattern):
        assert not takes(name, content_type, pattern)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "empty"),
        (" pdf", "blanks"),
        ("a\x1b.pdf", "cannot be seen"),
        ("*.[pP][dD][fF]", "case never matters"),
        ("a/b/c", "path"),
        ("C:\\a.pdf", "path"),
        ("image/", "media type"),
        ("*/pdf", "media type"),
        ("im*/png", "media type"),
        ("@firm.de", "allowedEmailExtensions"),
        (".", "no name"),
        ("x" * (MAX_PATTERN + 1), "use at most"),
    ],
)
def test_an_attachment_pattern_that_cannot_be_meant_says_why(pattern: str, says: str) -> None:
    fault = attachment_pattern_fault(pattern)
    assert fault is not None
    assert says in fault


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("a" * 1_000_000, "*a" * 100 + "b"),
        ("a" * 1_000_000, "*" + "a" * 200 + "b*"),
        ("a" * 1_000_000, "?*" * 100 + "b*"),
        ("\u0301\u0323" * 200_000, "*\u0301*.pdf"),
    ],
)
def test_no_name_and_pattern_together_take_long(name: str, pattern: str) -> None:
    began = time.process_time()
    assert not takes(name, "x/y", pattern)
    assert not lets_in(f"{name}@{name}", "firm.de")
    assert time.process_time() - began < 1
