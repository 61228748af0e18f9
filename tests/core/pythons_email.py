"""What Python's email package makes of a mail: the second opinion that our reader is compared with."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from email.message import EmailMessage, MIMEPart
from email.utils import getaddresses
from functools import partial
from typing import TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen
class Found:
    """An attachment as they see it: ``name`` None when there is none, ``data`` None when they cannot give bytes."""

    name: str | None
    content_type: str
    data: bytes | None


@attrs.frozen
class Opinion:
    """What they read in a mail: None where an access raised, and the exceptions' names are in ``raised``.

    ``flawless``: they recorded no defect anywhere, and nothing was raised.
    """

    subject: str | None
    senders: tuple[str, ...] | None
    found: tuple[Found, ...]
    raised: frozenset[str]
    flawless: bool


class _Guard:
    """Their headers and parameters are parsed at each access, and each access may raise."""

    def __init__(self) -> None:
        self.raised: set[str] = set()

    def __call__(self, access: Callable[[], T]) -> T | None:
        try:
            return access()
        except Exception as error:  # noqa: BLE001 - whatever they raise is what is asked here
            self.raised.add(type(error).__name__)
            return None


def opinion_on(raw: bytes, *, open_mails: bool = False) -> Opinion:
    """Reads a mail with ``email.policy.default``, in the way that its documentation shows.

    An attachment is what ``is_attachment`` or ``get_filename`` says, what ``iter_attachments`` of the mail gives, and a
    mail within the mail; ``open_mails`` looks inside of that, as ``walk`` does.
    """
    guard = _Guard()
    mail = guard(lambda: email.message_from_bytes(raw, policy=email.policy.default))
    if mail is None:
        return Opinion(None, None, (), frozenset(guard.raised), flawless=False)
    assert isinstance(mail, EmailMessage)
    found = guard(lambda: tuple(_found(mail, guard, open_mails))) or ()
    subject = guard(lambda: str(mail["subject"] or ""))
    from_ = guard(lambda: str(mail["from"] or ""))
    senders = None if from_ is None else tuple(address for _, address in getaddresses([from_]))
    flawless = bool(guard(lambda: not any(_defects(mail)))) and not guard.raised
    return Opinion(subject, senders, found, frozenset(guard.raised), flawless)


def _found(mail: EmailMessage, guard: _Guard, open_mails: bool) -> Iterator[Found]:
    listed = guard(lambda: {id(part) for part in mail.iter_attachments()}) if mail.is_multipart() else None
    for part in _leaves(mail, open_mails):
        name = guard(part.get_filename)
        is_mail = part.get_content_maintype() == "message"
        if name or is_mail or id(part) in (listed or ()) or guard(part.is_attachment):
            yield Found(name or None, part.get_content_type(), guard(partial(_data, part)))


def _defects(mail: EmailMessage) -> Iterator[object]:
    for part in mail.walk():
        yield from part.defects
        for header in part.values():
            yield from getattr(header, "defects", ())


def _leaves(part: MIMEPart, open_mails: bool) -> Iterator[MIMEPart]:
    inner = part.get_payload()
    if not isinstance(inner, list):
        yield part
        return
    if part.get_content_maintype() != "multipart":
        yield part
        if not open_mails:
            return
    for each in inner:
        assert isinstance(each, MIMEPart)
        yield from _leaves(each, open_mails)


def _data(part: MIMEPart) -> bytes | None:
    if isinstance(part.get_payload(), list):
        return None  # they give only a mail that was written anew
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else None
