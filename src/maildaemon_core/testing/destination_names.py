"""What a destination must make of names: each is one file in its place, or none."""

from __future__ import annotations

import unicodedata
from typing import Final

import pytest

from maildaemon_core.errors import Trouble
from maildaemon_core.ports import Destination, Occupied, Staged
from maildaemon_core.progress import Receipt
from maildaemon_core.testing.destination_samples import Consumer, batch_of, published_of, put_of, staged_of

LONGEST: Final = 255


class NameLaws:
    """Names of all kinds, harmless and not."""

    @pytest.mark.parametrize(
        "path",
        [
            "Größe ☃ 日本語.pdf",
            "with space and 'quotes' & $(signs); #%.eml",
            "-rf",
            "a" * LONGEST,
            "ä" * (LONGEST // 2),
            "/".join("abcdefghijkl") + "/leaf",
            unicodedata.normalize("NFC", "é.txt"),
        ],
    )
    def test_names_of_all_kinds_arrive_as_they_are(
        self, destination: Destination, consumer: Consumer, path: str
    ) -> None:
        published_of(destination, batch_of(1), [put_of("a", path, b"named")])
        assert {unicodedata.normalize("NFC", name): data for name, data in consumer.files().items()} == {path: b"named"}

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (unicodedata.normalize("NFC", "Größe.txt"), unicodedata.normalize("NFD", "Größe.txt")),
            ("Case.txt", "case.txt"),
            ("straße", "STRASSE"),
            ("a/b", "A/b"),
        ],
        ids=["normal forms", "case", "sharp s", "case of a folder"],
    )
    def test_names_that_a_place_takes_for_one_never_cost_a_file(
        self, destination: Destination, consumer: Consumer, one: str, other: str
    ) -> None:
        published_of(destination, batch_of(1), [put_of("a", one, b"first")])
        [staged] = staged_of(destination, batch_of(2), [put_of("a", other, b"second")])
        answer = destination.publish(batch_of(2), [staged])["a"]
        both = isinstance(answer, Receipt)
        assert both or answer == Occupied() or isinstance(answer, Trouble)
        assert sorted(consumer.files().values()) == [b"first", b"second"][: 2 if both else 1]

    @pytest.mark.parametrize(
        "name",
        [
            *("a\\..\\..\\x", "C:\\x", "a:stream", "CON", "x.", "%2e%2e", "%2Fx", "a?b#c", "a;b", "*", "~", "$(x)"),
            *("a\r\nDELE b", "a\nb", "a\tb", "\x7f", "\u202e", "'; DROP", "a//"),
        ],
    )
    def test_any_name_is_taken_as_it_is_or_refused(
        self, destination: Destination, consumer: Consumer, name: str
    ) -> None:
        """Whatever it means to a server: it names one file in this folder, or none."""
        answer: object = destination.stage(batch_of(1), [put_of("a", f"folder/{name}", b"named")])["a"]
        if isinstance(answer, Staged):
            answer = destination.publish(batch_of(1), [answer])["a"]
        if isinstance(answer, Receipt):
            assert consumer.files() == {f"folder/{name}": b"named"}
        else:
            assert isinstance(answer, Trouble)
            assert consumer.files() == {}

    @pytest.mark.parametrize(
        "path",
        ["../x", "a/../../x", "a/..", "/etc/x", "//x", "", ".", "a//b", "a/", ".hidden", "a/.hidden/b", "a\0b", "./x"],
    )
    def test_no_path_leads_out_or_hides(self, destination: Destination, consumer: Consumer, path: str) -> None:
        puts = [put_of("a", path), put_of("b", "harmless")]
        answers = destination.stage(batch_of(1), puts)
        refused = answers["a"]
        assert isinstance(refused, Trouble)
        assert not refused.transient
        harmless = answers["b"]
        assert isinstance(harmless, Staged)
        forged = Staged(part="b", path=path, size=harmless.size, sha256=harmless.sha256)
        answer = destination.publish(batch_of(1), [forged])["b"]
        assert isinstance(answer, Trouble)
        assert not answer.transient
        assert consumer.files() == {}
