"""Reading mail, beside Python's email package by turns: processor time of small mails, memory of large attachments.

python -m tests.bench.reading [--rounds N] [--megabytes N]
"""

from __future__ import annotations

import argparse
import base64
import email
import email.policy
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from itertools import chain
from pathlib import Path

from maildaemon_core.engine.spool import FolderSpool
from maildaemon_core.message import BytesContent
from maildaemon_core.mime import read_message
from maildaemon_core.testing.mails import simple_mail

ROOT = Path(__file__).resolve().parents[2]
AIM_MILLISECONDS = 0.2
AIM_MEGABYTES = 16
ABOUT_2_KB = 2048
LINE = 57  # bytes in one line of base64 of the usual length

RECEIVED = b"".join(
    b"Received: from relay%d.example.com (relay%d.example.com [192.0.2.%d])\r\n"
    b"\tby mx.example.org with ESMTPS id 4XyZ%d for <inbox@example.com>;\r\n"
    b"\tFri, 02 Jan 2026 03:04:05 +0000 (UTC)\r\n" % (hop, hop, hop, hop)
    for hop in range(3)
)

Access = Callable[[bytes], tuple[object, ...]]


def small_mails() -> dict[str, bytes]:
    """Of about 2 kB, as they come: headers of relays, a subject and a name beyond ASCII."""
    text = "Sehr geehrte Damen und Herren, anbei wie besprochen die Rechnung für den März.\n"
    bare = RECEIVED + simple_mail(subject="Rechnung März", sender='"Doe, Jane" <jane@example.com>', text=text)
    pdf = random.Random(1).randbytes(300)
    attached = simple_mail(
        subject="Rechnung März",
        sender='"Doe, Jane" <jane@example.com>',
        text=text,
        attachments=[("Rechnung März.pdf", "application/pdf", pdf)],
    )
    filling = text.replace("ü", "ue").replace("ä", "ae").replace("\n", "\r\n").encode()
    filled = bare + filling * ((ABOUT_2_KB - len(bare)) // len(filling) + 1)
    return {"a text": filled[:ABOUT_2_KB], "a text and a PDF": RECEIVED + attached}


def ours(raw: bytes) -> tuple[object, ...]:
    message = read_message(BytesContent(raw))
    headers = message.headers
    found = [(each.name, b"".join(each.content.chunks())) for each in message.attachments]
    return headers.subject, headers.from_, headers.to, headers.date, found


def theirs(raw: bytes) -> tuple[object, ...]:
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    found = [(part.get_filename(), part.get_content()) for part in mail.iter_attachments()]
    return *(str(mail[name]) for name in ("subject", "from", "to", "date")), found


def milliseconds(access: Access, raw: bytes, times: int) -> float:
    """Of the processor, for one mail."""
    began = time.process_time()
    for _ in range(times):
        access(raw)
    return 1e3 * (time.process_time() - began) / times


def show_small_mails(rounds: int) -> None:
    print("processor time of one mail, the least of the rounds; the same headers and attachments are asked for")
    print(f"\n{'':24} {'bytes':>6} {'ours':>12} {'theirs':>12} {'ratio':>8}   {rounds} rounds, by turns")
    for what, raw in small_mails().items():
        assert ours(raw) == theirs(raw)
        pairs = [(milliseconds(ours, raw, 1000), milliseconds(theirs, raw, 200)) for _ in range(rounds)]
        mine, other = (min(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / two for one, two in pairs)
        print(f"  {what:22} {len(raw):6} {mine:9.3f} ms {other:9.3f} ms {ratio:8.3f}")
    print(f"\nthe aim: at most {AIM_MILLISECONDS} ms for a mail of 2 kB")


def large_mail(megabytes: int) -> Iterator[bytes]:
    """With an attachment of so many million bytes."""
    block = random.Random(2).randbytes(LINE * 1024)
    encoded = base64.encodebytes(block).replace(b"\n", b"\r\n").replace(b"\r\n" * 2, b"\r\n")
    yield b"Subject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n"
    yield b"Content-Type: application/zip; name=large.zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    for _ in range(megabytes * 1_000_000 // len(block)):
        yield encoded
    yield b"\r\n--b--\r\n"


def resident(what: str) -> int:
    """Bytes of memory of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"{what} is not in /proc/self/status: this bench needs Linux")


def decode_one(who: str, mail: Path, target: Path) -> None:
    """In a process of its own: the one attachment of a mail to a file; prints what that cost as JSON."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is forgotten: man 5 proc
    start, began, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as sink:
        if who == "ours":
            with mail.open("rb") as source:
                content = FolderSpool(mail.parent).keep(iter(lambda: source.read(1 << 18), b""))
            (found,) = read_message(content).attachments
            pieces = found.content.chunks()
        else:
            with mail.open("rb") as source:
                read = email.message_from_binary_file(source, policy=email.policy.default)
            assert isinstance(read, EmailMessage)
            (part,) = read.iter_attachments()
            pieces = chain([part.get_content()])
        for piece in pieces:
            sink.write(piece)
            digest.update(piece)
            size += len(piece)
    spent = {"seconds": time.perf_counter() - began, "processor": time.process_time() - cpu}
    print(json.dumps({"above": resident("VmHWM") - start, "size": size, "sha256": digest.hexdigest(), **spent}))


def show_large_attachment(megabytes: int, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="maildaemon-bench-", dir=folder) as home:
        print("\nan attachment decoded to a file, each in a process of its own; the mail lies in a file as well")
        print(
            f"\n{'':10} {'attachment':>12} {'above start':>12} {'of its size':>12} {'processor':>12} {'for 100 MB':>12}"
        )
        # Theirs needs many times the size: a fourth of it is enough to see that, and still bearable.
        for who, size in (("ours", megabytes), ("ours", megabytes // 4), ("theirs", megabytes // 4)):
            mail = Path(home) / f"{size}.eml"
            with mail.open("wb") as file:
                file.writelines(large_mail(size))
            command = [sys.executable, "-m", "tests.bench.reading", "--one", who, str(mail), f"{mail}.zip"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=3600)
            spent = json.loads(done.stdout)
            above, mega = spent["above"] / 1e6, spent["size"] / 1e6
            print(
                f"  {who:8} {mega:9.1f} MB {above:9.1f} MB {above / mega:11.2f}× {spent['processor']:10.2f} s"
                f" {100 * spent['processor'] / mega:10.2f} s"
            )
        print(f"\nthe aim: at most {AIM_MEGABYTES} MB above the start for 200 MB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reading", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk, not a tmpfs")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        who, mail, target = chosen.one
        decode_one(who, Path(mail), Path(target))
        return 0
    show_small_mails(chosen.rounds)
    show_large_attachment(chosen.megabytes, chosen.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
