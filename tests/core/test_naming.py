"""Where things go: templates say only what they may, and no name escapes, hides, is reserved or too long."""

from __future__ import annotations

import itertools
import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maildaemon_core.naming import (
    ATTACHMENT_NAMES,
    MAIL_NAMES,
    MAX_PARTS,
    MAX_TEMPLATE,
    Template,
    TemplateFault,
    Values,
    candidates,
    render,
    with_suffix,
)
from maildaemon_core.safe_names import MAX_PART, attachment_name, extension_of_type, fit, sanitise, split_extension
from maildaemon_core.testing.strategies import hostile_names, templates, texts

KEY = "0123456789ab"
RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    device + digit for device in ("COM", "LPT") for digit in "0123456789¹²³"
}


def some_values(**changes: object) -> Values:
    plain: dict[str, object] = {
        "mailbox": "invoices@firm.de",
        "folder": "INBOX/a",
        "received": datetime(2024, 3, 5, 7, 8, 9, tzinfo=UTC),
        "sender": "jane@shop.example",
        "subject": "Your invoice",
        "message_id": "<1@shop.example>",
        "key": KEY,
        "filename": "Invoice 7.pdf",
        "index": 1,
        "content_type": "application/pdf",
    }
    return Values(**(plain | changes))  # type: ignore[arg-type]


def all_values() -> st.SearchStrategy[Values]:
    names = hostile_names()
    zones = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
    return st.builds(
        Values,
        mailbox=names,
        folder=names,
        received=st.datetimes(timezones=zones),
        sender=names,
        subject=names,
        message_id=names,
        key=st.one_of(st.just(KEY), names),
        filename=st.none() | names,
        index=st.integers(0, 10**6),
        content_type=st.none() | st.sampled_from(["application/pdf", "message/rfc822"]) | names,
    )


def filled(text: str, **changes: object) -> str:
    return render(Template.parse(text), some_values(**changes))


def fault_of(text: str) -> str | None:
    try:
        Template.parse(text)
    except TemplateFault as fault:
        return str(fault)
    return None


def assert_safe(part: str) -> None:
    """What is true of each part of each path; written without the code that is tested."""
    assert part
    assert part[0] not in ".- "
    assert part[-1] not in ". "
    assert len(part.encode("utf-8")) <= MAX_PART
    assert part.partition(".")[0].rstrip(" ").upper() not in RESERVED
    assert not set(part) & set('/\\:*?"<>|')
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in part)
    assert not any(0xF001 <= ord(char) <= 0xF07F or ord(char) & 0xFFFE == 0xFFFE for char in part)
    assert unicodedata.is_normalized("NFC", part)
    assert part == " ".join(part.split())


# --- sanitising


@given(hostile_names())
@example("PRNx" + "\u0301" * 400)
@example("x" * 254 + " yy")
def test_a_sanitised_name_is_safe_and_stays_as_it_is(name: str) -> None:
    once = sanitise(name)
    assert_safe(once)
    assert sanitise(once) == once


@given(st.characters(), st.characters(), st.sampled_from(["", ".pdf", "CON"]))
def test_no_pair_of_characters_slips_through(one: str, two: str, rest: str) -> None:
    for name in (one + rest, rest + one, one + two + rest, one + rest + two):
        assert_safe(sanitise(name))
        assert sanitise(sanitise(name)) == sanitise(name)


@given(hostile_names())
def test_both_ways_to_write_an_umlaut_give_one_name(name: str) -> None:
    short = "".join(char for char in name[:200] if unicodedata.category(char)[0] in "LN")
    assert sanitise(unicodedata.normalize("NFD", short)) == sanitise(unicodedata.normalize("NFC", short))


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("Überweisung März.pdf", "Überweisung März.pdf"),
        ("INBOX/a", "INBOX_a"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\autoexec.bat", "C__autoexec.bat"),
        ("con.tar.gz", "con_.tar.gz"),
        ("Con .txt", "Con_ .txt"),
        ("LPT¹", "LPT¹_"),
        ("COMMON.txt", "COMMON.txt"),
        ("-rf", "rf"),
        (".htaccess", "htaccess"),
        ("name. . ", "name"),
        ("a\0b\x1b[31m", "ab[31m"),
        ("line\r\nbreak", "line break"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("lone\ud800", "lone_"),
        ("a\u200b\u0301", "á"),
        ("<\u0338", "_\u0338"),
        ("a.txt:evil", "a.txt_evil"),
        ("a.txt::$DATA", "a.txt__$DATA"),
        ("a\uf022evil\uf03ax", "a_evil_x"),
        ("\ue000", "\ue000"),
        ("a\uffff\ufdd0b", "a__b"),
        ("%2e%2e%2fetc", "%2e%2e%2fetc"),
        ("=?utf-8?q?a?=", "=_utf-8_q_a_="),
        ("\uff0e\uff0e\uff0fetc", "\uff0e\uff0e\uff0fetc"),
        ("a.pdf\u3000.", "a.pdf"),
        ("CON\u200b.txt", "CON_.txt"),
        ("\u1112\u1161\u11ab", "한"),
        ("\u200b", "_"),
        ("", "_"),
        ("...", "_"),
    ],
)
def test_a_name_is_changed_no_more_than_it_must(raw: str, safe: str) -> None:
    assert sanitise(raw) == safe


@pytest.mark.parametrize("extension", [".pdf", ".PDF", ".tar.gz", ".eml.gz", "." + "y" * 20])
@given(length=st.integers(200, 3000))
def test_a_name_that_is_cut_keeps_its_extension(extension: str, length: int) -> None:
    name = sanitise("ü" * length + extension)
    assert name.endswith(extension)
    assert name.startswith("üüü")
    assert len(name.encode()) <= MAX_PART


def test_what_is_too_long_for_an_extension_is_cut_like_the_rest() -> None:
    assert sanitise("x." + "y" * 300) == "x." + "y" * 253


def test_a_letter_is_not_parted_from_its_accents() -> None:
    assert sanitise("a" * 254 + "q\u0323\u0307") == "a" * 254
    assert sanitise("a" * 253 + "q\u0323\u0307") == "a" * 253


@given(hostile_names())
def test_stem_and_extension_are_the_whole_name(name: str) -> None:
    stem, extension = split_extension(sanitise(name))
    assert stem
    assert stem + extension == sanitise(name)
    assert extension == "" or re.fullmatch(r"(\.\w+){1,2}", extension)


@given(hostile_names().map(sanitise), st.integers(1, MAX_PART))
@example("a." + "\U00020000" * 20, 60)
def test_a_name_is_cut_to_any_length(name: str, limit: int) -> None:
    short = fit(name, limit)
    assert len(short.encode()) <= limit
    assert short == name or len(name.encode()) > limit
    assert name.startswith(short.removesuffix(split_extension(name)[1]))


# --- attachments without a name


@pytest.mark.parametrize(
    ("filename", "content_type", "name"),
    [
        ("Invoice.pdf", "text/plain", "Invoice.pdf"),
        (None, "application/pdf", "attachment-3.pdf"),
        (None, "Text/CSV; charset=utf-8", "attachment-3.csv"),
        (None, "application/x-unheard-of", "attachment-3"),
        (None, None, "attachment-3"),
        ("\u200b..", "image/jpeg", "attachment-3.jpg"),
    ],
)
def test_an_attachment_without_a_usable_name_is_numbered(
    filename: str | None, content_type: str | None, name: str
) -> None:
    assert attachment_name(filename, 3, content_type) == name


@given(texts())
def test_any_type_has_an_extension_or_none(content_type: str) -> None:
    assert re.fullmatch(r"[a-z0-9]*", extension_of_type(content_type))


# --- templates


@given(templates(), all_values())
@example("{key}-{filename}", some_values(filename="x" * 300 + ".pdf"))
@example("{stem}.{extension}", some_values(filename="CON"))
@example("CO{stem}", some_values(filename="N"))
def test_a_rendered_path_is_safe_and_only_the_template_makes_folders(text: str, values: Values) -> None:
    path = render(Template.parse(text), values)
    parts = path.split("/")
    assert path.count("/") == text.count("/")
    for part in parts:
        assert_safe(part)
    assert [sanitise(part) for part in parts] == parts


@given(templates(MAIL_NAMES))
def test_a_template_for_mails_knows_the_names_that_it_uses(text: str) -> None:
    template = Template.parse(text, MAIL_NAMES)
    assert template == Template.parse(text)
    assert template.names <= MAIL_NAMES
    assert template.names == set(re.findall(r"\{(\w+)", text.replace("{{", "")))
    assert str(template) == text


@given(hostile_names(), all_values())
def test_a_text_is_a_template_that_is_safe_or_a_fault_that_says_so(text: str, values: Values) -> None:
    fault = fault_of(text)
    if fault is None:
        for part in render(Template.parse(text), values).split("/"):
            assert_safe(part)
    else:
        assert fault.isprintable()


@given(st.text(st.sampled_from("{}%:/!.[]rY_ "), max_size=12), st.sampled_from(sorted(ATTACHMENT_NAMES)))
def test_inside_of_braces_stands_a_name_or_a_date_or_nothing_is_accepted(noise: str, name: str) -> None:
    inner = re.sub(r"[{}]", "", noise)
    text = "{" + name + inner + "}"
    if inner and name != "received":
        with pytest.raises(TemplateFault, match=re.escape("{" + name + inner + "}")):
            Template.parse(text)
    elif not inner:
        assert Template.parse(text).names == {name}


@given(st.text(st.characters(), min_size=1, max_size=3))
def test_only_directives_that_are_numbers_everywhere_are_accepted(directive: str) -> None:
    if directive[0] not in "YmdHMSyjVG%{}":
        with pytest.raises(TemplateFault, match=r"directive|closed|closes"):
            Template.parse("{received:%" + directive + "}")


@pytest.mark.parametrize(
    "text",
    [
        "{sender.__class__}",
        "{subject:>999999999}",
        "{subject!r}",
        "{subject[0]}",
        "{0}",
        "{}",
        "{ subject }",
        "{Subject}",
        "{subject:}",
        "{received:}",
        "{received:%}",
        "{received:%a}",
        "{received:%-d}",
        "{received:%B}",
        "{received:%10Y}",
        "{received:%H:%M}",
        "{received:/%Y}",
        "{received:../%Y}",
        "{subject",
        "subject}",
        "{{subject}",
        "{subject}}",
        "{a{subject}}",
        "",
        "/",
        "/{key}",
        "{key}/",
        "a//{key}",
        "../{key}",
        "./{key}",
        "a/../{key}",
        ".maildaemon/{key}",
        "a/.{key}",
        "-{key}",
        " {key}",
        "a./{key}",
        "a /{key}",
        "a\\{key}",
        "C:{key}",
        "a\0{key}",
        "a\n{key}",
        "a\u202e{key}",
        "a\ud800{key}",
        "a*{key}",
        "x" * (MAX_TEMPLATE + 1),
        "/".join("x" * (MAX_PARTS + 1)),
    ],
)
def test_a_template_that_asks_for_more_is_a_fault(text: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        Template.parse(text)
    assert str(caught.value).isprintable()


def test_a_fault_names_the_placeholder_and_what_is_allowed() -> None:
    with pytest.raises(
        TemplateFault, match=r"unknown placeholder \{sender\.__class__\}; use one of: extension, .*subject"
    ):
        Template.parse("{sender.__class__}")
    with pytest.raises(
        TemplateFault, match=r"\{filename\} has no meaning here; use one of: folder, key, mailbox, messageId"
    ):
        Template.parse("{filename}", MAIL_NAMES)
    with pytest.raises(
        TemplateFault, match=r"\{subject:>999999999\} takes no format, only received does; write \{subject\}"
    ):
        Template.parse("{subject:>999999999}")
    with pytest.raises(TemplateFault, match=r"character 3 is never closed"):
        Template.parse("a-{key{subject}}")
    with pytest.raises(TemplateFault, match=r"%B; use %Y, %m"):
        Template.parse("{received:%B}")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{received:%Y/%m/%d}/{key}-{filename}", "2024/03/05/0123456789ab-Invoice 7.pdf"),
        ("{received:%Y/%m/%d}/{key}.eml", "2024/03/05/0123456789ab.eml"),
        ("{received:%G-W%V %y %j %H.%M.%S}", "2024-W10 24 065 07.08.09"),
        ("{received:100%%}", "100%"),
        ("{received}", "2024-03-05T070809Z"),
        ("{{{subject}}}", "{Your invoice}"),
        ("{mailbox}/{folder}", "invoices@firm.de/INBOX_a"),
        ("{sender}/{senderDomain}/{messageId}", "jane@shop.example/shop.example/1@shop.example"),
        ("{index}-{stem}.{extension}", "1-Invoice 7.pdf"),
        ("nul", "nul_"),
    ],
)
def test_a_template_means_what_it_says(text: str, path: str) -> None:
    assert filled(text) == path


def test_values_are_never_read_as_templates() -> None:
    assert filled("{subject}", subject="{key}%Y{sender.__class__}") == "{key}%Y{sender.__class__}"


def test_a_mail_is_dated_in_utc() -> None:
    late = datetime(2024, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert filled("{received:%Y/%m/%d %H}", received=late) == "2025/01/01 01"


def test_the_year_of_a_week_is_that_of_its_thursday() -> None:
    assert filled("{received:%G-W%V}", received=datetime(2024, 12, 30, tzinfo=UTC)) == "2025-W01"


def test_the_ends_of_the_calendar_can_be_written() -> None:
    zone = timezone(timedelta(hours=5))
    assert filled("{received:%Y-%m-%d}", received=datetime.min.replace(tzinfo=zone)) == "0001-01-01"
    assert (
        filled("{received:%Y-%m-%d}", received=datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))))
        == "9999-12-31"
    )


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        some_values(received=datetime(2024, 3, 5, tzinfo=UTC).replace(tzinfo=None))


def test_an_attachment_without_extension_leaves_no_dot_behind() -> None:
    assert filled("{stem}.{extension}", filename="README") == "README"


@given(texts(max_size=3000), st.text("ü", min_size=300, max_size=600))
def test_long_words_give_way_to_keys_and_extensions(subject: str, stem: str) -> None:
    name = filled("{subject}-{sender}-{key}-{filename}", subject=subject, sender="ä" * 3000, filename=f"{stem}.pdf")
    assert f"-{KEY}-ü" in name
    assert name.endswith("ü.pdf")
    assert f"-{KEY}.eml" in filled("{subject}-{key}.eml", subject="é" * 500)


def test_a_hostile_template_and_mail_together_allocate_little() -> None:
    path = filled("{subject}" * (MAX_TEMPLATE // len("{subject}")), subject="x" * 10_000_000)
    assert len(path) <= MAX_PART


# --- suffixes and candidates


@given(templates(), all_values(), st.integers(2, 10**6))
def test_a_suffix_keeps_folder_and_extension(text: str, values: Values, number: int) -> None:
    path = render(Template.parse(text), values)
    longer = with_suffix(path, f"-{KEY}-{number}")
    assert longer.rpartition("/")[0] == path.rpartition("/")[0]
    stem, extension = split_extension(longer.rpartition("/")[2])
    assert extension == split_extension(path.rpartition("/")[2])[1]
    assert stem.endswith(f"-{KEY}-{number}")
    assert_safe(longer.rpartition("/")[2])


@pytest.mark.parametrize(
    ("path", "longer"),
    [
        ("a.b/report.pdf", "a.b/report-k.pdf"),
        ("a/mail.eml.gz", "a/mail-k.eml.gz"),
        ("x.tar.gz", "x-k.tar.gz"),
        ("2024/key.json", "2024/key-k.json"),
        ("README", "README-k"),
        ("x" * 251 + ".pdf", "x" * 249 + "-k.pdf"),
    ],
)
def test_a_suffix_goes_before_the_extension(path: str, longer: str) -> None:
    assert with_suffix(path, "-k") == longer


def test_a_suffix_makes_no_second_blank() -> None:
    assert with_suffix("a .pdf", " x") == "a x.pdf"


@pytest.mark.parametrize("suffix", ["/x", "-a/../b", "\0", "-x.", "-" + "x" * 100, "\ud800"])
def test_a_suffix_that_is_no_suffix_is_refused(suffix: str) -> None:
    with pytest.raises(ValueError, match="cannot be part of a file name"):
        with_suffix("a.pdf", suffix)


@given(templates(), all_values(), st.one_of(st.just(KEY), hostile_names()))
@example("{key}", some_values(key="x" * (MAX_PART - len(KEY) - 1) + "-" + KEY), KEY)
@example("{key}", some_values(key="x" * (MAX_PART - 4) + "-2-2"), "2")
@example("{key}", some_values(), "k" * 39 + ".k")
def test_candidates_are_safe_and_all_different(text: str, values: Values, key: str) -> None:
    path = render(Template.parse(text), values)
    names = list(itertools.islice(candidates(path, key), 12))
    assert names[0] == path
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert name.count("/") == path.count("/")
        assert_safe(name.rpartition("/")[2])


def test_candidates_are_tried_in_a_fixed_order() -> None:
    assert list(itertools.islice(candidates("a/b.pdf", KEY), 4)) == [
        "a/b.pdf",
        f"a/b-{KEY}.pdf",
        f"a/b-{KEY}-2.pdf",
        f"a/b-{KEY}-3.pdf",
    ]
