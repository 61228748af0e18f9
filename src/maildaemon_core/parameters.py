"""Content-Type and Content-Disposition: the value and its parameters, in every way that senders write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from urllib.parse import unquote_to_bytes

import attrs

from maildaemon_core.headers import Note, charset_text, decode_text

_MOST = 1000  # parameters of one header that are read
_SECTION = re.compile(r"\*([0-9]{1,4})(\*?)")
_ESCAPED = re.compile(r'\\([\\"])')
_VALUE_END = re.compile(r"[\s;(]")
_QUOTE_OR_ESCAPE = re.compile(r'[\\"]')


@attrs.frozen
class Parameterized:
    """A header value with parameters: ``value`` in lower case without comments, the names of ``raw`` in lower case.

    ``raw`` keeps each character of a value as one byte (Latin-1), so that nothing is lost before a charset is known;
    ``starred`` are those of its names that hold an asterisk, few or none.
    """

    value: str
    raw: Mapping[str, str]
    starred: Sequence[str] = ()

    def plain(self, name: str) -> bytes:
        """A parameter that is compared and not shown, such as a boundary; ``b""`` when absent."""
        found = self.raw.get(name)
        if found is None:  # nobody needs RFC 2231 for these, and some write it all the same
            return self.text(name, lambda _: None).encode() if self.starred else b""
        return found.strip().encode("latin-1")

    def text(self, name: str, note: Note) -> str:
        """A parameter for people, ``""`` when absent: RFC 2231 with or without continuations, RFC 2047, raw UTF-8.

        Where both are given the extended form wins over the plain one (RFC 6266 §4.3).
        """
        sections: list[tuple[int, bool, str]] = []
        for key in self.starred:
            if key == name + "*":
                sections = [(0, True, self.raw[key])]
                break
            if key.startswith(name + "*") and (found := _SECTION.fullmatch(key, len(name))):
                sections.append((int(found[1]), bool(found[2]), self.raw[key]))
        # Sorted and not counted: some senders begin at 1, and a gap is no reason to drop the rest.
        if not sections:
            return decode_text(self.raw[name].encode("latin-1"), note) if name in self.raw else ""
        joined = _join(sorted(sections, key=lambda section: section[0]), note)
        return joined or decode_text(self.raw.get(name, "").encode("latin-1"), note)


_NONE = Parameterized("", {})


def read_parameters(raw: bytes) -> Parameterized:
    """Takes a header value apart; of a parameter that comes twice the first counts.  Never raises."""
    if not raw:
        return _NONE
    text = raw.decode("latin-1")
    head, _, rest = text.partition(";")
    value = _VALUE_END.split(head.strip(), maxsplit=1)[0].strip('"').lower()
    found: dict[str, str] = {}
    for name, parameter in islice(_pairs(rest), _MOST):
        found.setdefault(name, parameter)
    return Parameterized(value, found, [name for name in found if "*" in name] if "*" in rest else ())


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        stop = text.find(";", at)
        stop = len(text) if stop < 0 else stop
        equals = text.find("=", at, stop)
        if equals < 0:
            at = stop + 1
            continue
        name = text[at:equals].strip().lower()
        begin = equals + 1
        while begin < stop and text[begin] in " \t":
            begin += 1
        value, stop = _quoted(text, begin + 1) if text[begin : begin + 1] == '"' else (text[begin:stop].strip(), stop)
        at = stop + 1
        if name:
            yield name, value


def _quoted(text: str, begin: int) -> tuple[str, int]:
    """A quoted string and where its parameter ends.

    Only ``\\\\`` and ``\\"`` are escapes: Windows paths are sent with plain backslashes.  Quotes that were not escaped
    inside the string belong to it; a string that is never closed ends at the next semicolon.
    """
    close, resume = -1, begin
    while (mark := _QUOTE_OR_ESCAPE.search(text, resume)) is not None:
        if mark[0] == '"':
            close = mark.start()
            break
        resume = mark.start() + (2 if text[mark.end() : mark.end() + 1] in {"\\", '"'} else 1)
    stop = text.find(";", begin if close < 0 else close)
    stop = len(text) if stop < 0 else stop
    if close < 0:
        return text[begin:stop].strip(), stop
    close = text.rfind('"', close, stop)
    return _ESCAPED.sub(r"\1", text[begin:close]), stop


def _join(sections: list[tuple[int, bool, str]], note: Note) -> str:
    """RFC 2231 §3 and §4: charset and language stand in the first section, a character may be spread over several."""
    if not any(extended for _, extended, _ in sections):
        return decode_text("".join(value for _, _, value in sections).encode("latin-1"), note)
    charset, pieces, held = "", [], bytearray()
    for position, (_, extended, value) in enumerate(sections):
        text = value
        if extended and position == 0 and value.count("'") > 1:
            charset, _, text = value.split("'", 2)
        if extended:
            held += unquote_to_bytes(text.encode("latin-1"))
            continue
        pieces.append(charset_text(bytes(held), charset, note))
        pieces.append(decode_text(text.encode("latin-1"), note))
        held.clear()
    pieces.append(charset_text(bytes(held), charset, note))
    return re.sub(r"[\r\n]", " ", "".join(pieces)).strip()
