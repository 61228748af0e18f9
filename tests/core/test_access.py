"""Keys of the API: only the very key opens, only while it is good, and nothing of it shows."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import FrameType
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maildaemon_core.access import (
    ALL_SCOPES,
    CHANCE_BYTES,
    LONGEST_DAYS,
    LONGEST_NAME,
    PREFIX_BYTES,
    ApiKey,
    KeyState,
    Scope,
    is_good,
    kept_scopes,
    make_key,
    name_fault,
    named,
    prefix_of,
    read_expiry,
    read_scopes,
    without_secret,
)

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

chances = st.binary(min_size=CHANCE_BYTES, max_size=CHANCE_BYTES)
anything = st.text(st.characters(), max_size=200)  # surrogates and NUL too


def made(chance: bytes, name: str = "ci", **other: Any) -> tuple[str, ApiKey]:
    key, kept = make_key(chance, name, now=NOW, **other)
    return key.value, kept


# ---- making ----


@given(chance=chances)
def test_a_key_is_good_has_a_fixed_shape_and_is_found_by_its_prefix(chance: bytes) -> None:
    key, kept = made(chance)
    assert is_good(key, kept, now=NOW)
    assert re.fullmatch(r"md_[0-9a-f]{10}_[A-Za-z0-9_-]{43}", key)
    assert prefix_of(key) == kept.prefix == chance[:PREFIX_BYTES].hex()


@given(one=chances, other=chances)
def test_other_chance_is_another_key_in_its_secret_alone_too(one: bytes, other: bytes) -> None:
    other = one[:PREFIX_BYTES] + other[PREFIX_BYTES:]
    assume(one != other)
    (key, kept), (stranger, _) = made(one), made(other)
    assert key != stranger
    assert not is_good(stranger, kept, now=NOW)


@given(chance=chances)
def test_nothing_of_the_secret_shows_in_what_is_kept_or_printed(chance: bytes) -> None:
    key, kept = make_key(chance, "ci", now=NOW)
    secret = key.value.removeprefix(f"md_{kept.prefix}_")
    assert len(secret) == 43
    assert not any(secret in str(value) for value in attrs.astuple(kept))
    assert secret not in f"{key!r} {key} {kept!r} {kept}"
    assert kept.digest == hashlib.sha256(key.value.encode()).hexdigest()
    assert kept.digest not in f"{kept!r} {kept}"


@pytest.mark.parametrize("number", [0, CHANCE_BYTES - 1, CHANCE_BYTES + 1])
def test_a_key_is_made_of_exactly_so_much_chance(number: int) -> None:
    with pytest.raises(ValueError, match=f"37 random bytes are needed, not {number}"):
        make_key(bytes(number), "ci", now=NOW)


def test_a_key_may_do_everything_unless_it_is_said_what() -> None:
    _, everything = made(bytes(CHANCE_BYTES))
    _, little = made(bytes(CHANCE_BYTES), scopes=[Scope.SWEEPS_RUN])
    _, nothing = made(bytes(CHANCE_BYTES), scopes=())
    assert [scope for scope in Scope if everything.allows(scope)] == list(Scope)
    assert [scope for scope in Scope if little.allows(scope)] == [Scope.SWEEPS_RUN]
    assert [scope for scope in Scope if nothing.allows(scope)] == []


# ---- is it good ----


@given(chance=chances, shown=anything)
def test_any_other_text_is_refused(chance: bytes, shown: str) -> None:
    key, kept = made(chance)
    assume(shown != key)
    assert not is_good(shown, kept, now=NOW)
    assert not is_good(shown, None, now=NOW)


CHANGES: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "lower case": str.lower,
    "swapped case": str.swapcase,
    "the last character missing": lambda key: key[:-1],
    "the first character missing": lambda key: key[1:],
    "without its secret": lambda key: key[:14],
    "nothing": lambda key: "",
    "a blank before": lambda key: f" {key}",
    "a line break after": lambda key: f"{key}\n",
    "NUL after": lambda key: f"{key}\0",
    "NUL within": lambda key: f"{key[:20]}\0{key[20:]}",
    "padded": lambda key: f"{key}=",
    "a lone surrogate after": lambda key: f"{key}\udc80",
    "twice": lambda key: key * 2,
    "another prefix": lambda key: f"md_{'0' * 10 if key[3] != '0' else 'f' * 10}{key[13:]}",
    "wide digits": lambda key: key.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
}


@given(chance=chances, how=st.sampled_from(sorted(CHANGES)))
def test_a_key_that_is_nearly_right_is_refused(chance: bytes, how: str) -> None:
    key, kept = made(chance)
    shown = CHANGES[how](key)
    assume(shown != key)
    assert not is_good(shown, kept, now=NOW)


@given(chance=chances, at=st.integers(0, 56), put=st.characters())
def test_one_other_character_anywhere_is_refused(chance: bytes, at: int, put: str) -> None:
    key, kept = made(chance)
    assume(key[at] != put)
    assert not is_good(key[:at] + put + key[at + 1 :], kept, now=NOW)


@given(shown=anything, kept=st.text(st.characters(), max_size=80))
def test_a_damaged_digest_opens_nothing_and_raises_nothing(shown: str, kept: str) -> None:
    _, key = made(bytes(CHANCE_BYTES))
    digest = kept.encode("utf-8", "replace").decode()
    assume(digest != hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest())
    assert not is_good(shown, attrs.evolve(key, digest=digest), now=NOW)


def test_no_text_is_the_key_that_nobody_has() -> None:
    assert not is_good("", None, now=NOW)
    assert prefix_of("") is None


@given(expires=st.integers(-3, 3), zone=st.integers(-12, 14))
def test_a_key_ends_at_the_very_moment_that_it_expires(expires: int, zone: int) -> None:
    until = (NOW + expires * MICROSECOND).astimezone(timezone(timedelta(hours=zone)))
    key, kept = made(bytes(CHANCE_BYTES), expires=until)
    assert is_good(key, kept, now=NOW) == (expires > 0)
    assert kept.state(now=NOW) is (KeyState.GOOD if expires > 0 else KeyState.EXPIRED)


@given(revoked=st.integers(-3, 3), expires=st.none() | st.integers(-3, 3))
def test_a_revoked_key_is_refused_whenever_that_was(revoked: int, expires: int | None) -> None:
    until = None if expires is None else NOW + expires * MICROSECOND
    key, kept = made(bytes(CHANCE_BYTES), expires=until)
    ended = attrs.evolve(kept, revoked=NOW + revoked * MICROSECOND)
    assert not is_good(key, ended, now=NOW)
    assert ended.state(now=NOW) is KeyState.REVOKED


@given(chance=chances, stranger=chances)
def test_a_key_that_nobody_has_takes_the_same_work_as_a_wrong_secret(chance: bytes, stranger: bytes) -> None:
    assume(chance != stranger)
    shown, _ = made(chance)
    _, kept = made(stranger)
    revoked = attrs.evolve(kept, revoked=NOW)
    assert "compare_digest" in " ".join(work(shown, kept))
    assert work(shown, None) == work(shown, kept) == work(shown, revoked)


def work(shown: str, kept: ApiKey | None) -> list[str]:
    """Every function that is called to find out whether a key is good, in their order."""
    called: list[str] = []

    def note(frame: FrameType, event: str, function: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)
        elif event == "c_call":
            called.append(repr(getattr(function, "__name__", function)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        is_good(shown, kept, now=NOW)
    finally:
        sys.setprofile(before)
    return called[:-1]  # the last one is setprofile itself


# ---- prefixes ----


@given(shown=anything)
def test_only_what_has_the_shape_of_a_key_has_a_prefix(shown: str) -> None:
    assert prefix_of(shown) is None


@given(chance=chances, how=st.sampled_from(["a blank before", "a line break after", "NUL after", "without its secret"]))
def test_a_key_with_anything_about_it_has_no_prefix(chance: bytes, how: str) -> None:
    assert prefix_of(CHANGES[how](made(chance)[0])) is None


# ---- names ----


@pytest.mark.parametrize("name", ["ci", "x", "x" * LONGEST_NAME, "Büro, 2. Stock", "給与", "a-b_c (d) 100%", "md_ci"])
def test_a_name_is_what_people_can_read(name: str) -> None:
    assert name_fault(name) == ""
    assert made(bytes(CHANCE_BYTES), name)[1].name == name


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "1 to 100 characters, not 0"),
        ("x" * 101, "1 to 100 characters, not 101"),
        ("a\nb", "printable"),
        ("a\x1b[31m", "printable"),
        ("a\0", "printable"),
        ("a\u202eb", "printable"),
        ("a\ud800", "printable"),
        (" a", "blank"),
        ("a ", "blank"),
        (" ", "blank"),
        ("0123456789", "the prefix of one"),
        ("md_0123456789", "looks like a key"),
    ],
)
def test_any_other_name_is_refused_with_a_reason(name: str, fault: str) -> None:
    assert fault in name_fault(name)
    with pytest.raises(ValueError, match=re.escape(fault)):
        make_key(bytes(CHANCE_BYTES), name, now=NOW)


@given(chance=chances, before=st.text(max_size=5), after=st.text(max_size=5))
def test_a_key_is_no_name_and_is_not_repeated(chance: bytes, before: str, after: str) -> None:
    key, _ = made(chance)
    fault = name_fault(before + key + after)
    assert fault
    assert key[14:] not in fault


@given(
    chances=st.lists(chances, min_size=1, max_size=5, unique_by=lambda chance: chance[:PREFIX_BYTES]), data=st.data()
)
def test_a_key_is_meant_by_its_name_its_prefix_or_itself(chances: list[bytes], data: st.DataObject) -> None:
    both = [made(chance, f"key {number}") for number, chance in enumerate(chances)]
    there = [kept for _, kept in both]
    key, kept = data.draw(st.sampled_from(both))
    assert {named(there, how) for how in (key, kept.prefix, f"md_{kept.prefix}", kept.name)} == {kept}
    assert named(there, "another") is None
    assert named([], key) is None
    assert named([other for other in there if other != kept], key) is None


def test_of_several_keys_of_a_name_the_one_that_lives_is_meant_else_the_one_revoked_last() -> None:
    keys = [made(bytes([number] * CHANCE_BYTES))[1] for number in range(4)]
    first, second, third = (
        attrs.evolve(key, revoked=NOW + number * MICROSECOND) for key, number in zip(keys, (2, 3, 1), strict=False)
    )
    assert named([first, second, third], "ci") == second
    assert named([first, keys[3], second, third], "ci") == keys[3]
    assert named([first, keys[3], second, third], first.prefix) == first


@given(chance=chances, before=anything, after=anything)
def test_what_people_typed_is_shown_without_the_secret_of_a_key(chance: bytes, before: str, after: str) -> None:
    key, kept = made(chance)
    told = without_secret(before + key + after)
    assert key[14:] not in told
    assert f"md_{kept.prefix}_…" in told


@given(chance=chances)
def test_a_key_without_its_first_letters_is_neither_shown_nor_a_name_but_meant(chance: bytes) -> None:
    """People leave them out as they copy, or take them for ornament."""
    key, kept = made(chance)
    short = key.removeprefix("md_")
    assert without_secret(f"<{short}>") == f"<{kept.prefix}_…>"
    assert name_fault(short)
    assert named([kept], short) == kept


@given(text=anything)
def test_other_text_is_shown_as_it_is(text: str) -> None:
    assume("md_" not in text)
    assert without_secret(text) == text


# ---- scopes and expiry, as people write them ----


@given(scopes=st.lists(st.sampled_from(Scope)))
def test_scopes_are_read_by_their_names(scopes: list[Scope]) -> None:
    assert read_scopes([scope.value for scope in scopes]) == frozenset(scopes)


@given(names=st.lists(st.sampled_from(Scope).map(str) | anything, min_size=1))
def test_an_unknown_scope_is_refused_with_all_that_there_are(names: list[str]) -> None:
    assume(any(name not in set(Scope) for name in names))
    with pytest.raises(ValueError, match="unknown: ") as told:
        read_scopes(names)
    assert all(scope.value in str(told.value) for scope in Scope)


@given(names=st.lists(st.sampled_from(Scope).map(str) | anything | st.none() | st.lists(anything, max_size=2)))
def test_kept_scopes_are_those_that_are_known(names: list[object]) -> None:
    assert kept_scopes(names) == {scope for scope in ALL_SCOPES if scope.value in names}


@pytest.mark.parametrize(
    ("written", "until"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("1d", NOW + timedelta(days=1)),
        (f"{LONGEST_DAYS}d", NOW + timedelta(days=LONGEST_DAYS)),
        ("2027-01-31T08:00:00Z", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("2027-01-31T08:00+02:00", datetime(2027, 1, 31, 6, tzinfo=UTC)),
        ("2026-11-22T12:30:15.123457Z", NOW + MICROSECOND),
    ],
)
def test_an_expiry_is_a_date_time_or_days_from_now(written: str, until: datetime) -> None:
    read = read_expiry(written, now=NOW)
    assert read == until
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("", "90d"),
        ("tomorrow", "90d"),
        ("90", "90d"),
        ("90D", "90d"),
        ("-1d", "90d"),
        ("٩d", "90d"),
        ("1.5d", "90d"),
        ("2027-01-31T08:00:00", "offset or Z"),
        ("2027-01-31", "offset or Z"),
        ("9999-12-31T23:59:59-14:00", "years 1 to 9999"),
        ("0d", "from 1d to 36500d"),
        ("36501d", "from 1d to 36500d"),
        ("9999999d", "90d"),
        ("2026-11-22T12:30:15.123456Z", "passed"),
        ("0001-01-01T00:00:00Z", "passed"),
    ],
)
def test_any_other_expiry_is_refused_with_a_reason(written: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_expiry(written, now=NOW)


def test_days_beyond_the_end_of_the_calendar_are_refused() -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        read_expiry("36500d", now=datetime(9999, 1, 1, tzinfo=UTC))


@given(written=anything)
def test_whatever_is_written_is_an_expiry_or_a_fault(written: str) -> None:
    try:
        assert read_expiry(written, now=NOW) > NOW
    except ValueError as error:
        assert str(error)  # noqa: PT017
