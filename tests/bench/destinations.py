"""A large file through each kind of destination, beside a plain put of the same library by turns; and what memory.

python -m tests.bench.destinations [--rounds N] [--megabytes N] [--kinds sftp smb ...]

Ours is staged, its size asked for and published, and on the way its digest is taken; the plain put is what a script
would do.  Each in a process of its own, whose memory is counted from when the library is loaded and logged in.
"""

from __future__ import annotations

import argparse
import asyncio
import ftplib
import http.client
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from maildaemon_core.codec import read
from maildaemon_core.engine.plugins import installed_destinations
from maildaemon_core.message import CHUNK, BytesContent
from maildaemon_core.options import DestinationOptions
from maildaemon_core.testing.destination_samples import batch_of, published_of, put_of
from tests.bench.reading import resident
from tests.proofs.places import KINDS, Straight, place_of

ROOT = Path(__file__).resolve().parents[2]
AIM_MIB = 32

Put = Callable[[str, Path], None]
"""Puts a file under a name, over a connection that is there already."""


class OnDisk:
    """The content of a file, as the engine has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size
        self.sha256 = ""  # nobody asks for it: a destination takes its own

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        assert (start, stop) == (0, None)
        with self._path.open("rb") as source:
            yield from iter(lambda: source.read(CHUNK), b"")

    def close(self) -> None:
        pass


@contextmanager
def ours(written: Mapping[str, Any]) -> Iterator[Put]:
    options = read(DestinationOptions, dict(written))
    kind = installed_destinations().kind(options.kind)
    destination = kind.open(options, read(kind.settings, options.options))
    numbers = iter(range(100))

    def put(name: str, path: Path) -> None:
        batch = batch_of(next(numbers))
        content = BytesContent(path.read_bytes()) if path.stat().st_size < CHUNK else OnDisk(path)
        published_of(destination, batch, [put_of("a", name, content)])
        destination.forget(batch)

    try:
        yield put
    finally:
        destination.close()


# --------------------------------------------------------------------------------------------------------- plain puts


@contextmanager
def sftp(written: Mapping[str, Any]) -> Iterator[Put]:
    import asyncssh

    url = urlsplit(written["url"])
    with asyncio.Runner() as runner:

        async def log_in() -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
            connection = await asyncssh.connect(
                url.hostname or "",
                url.port or 22,
                username=url.username or "",
                client_keys=[asyncssh.import_private_key(written["options"]["privateKey"])],
                known_hosts=None,
                config=None,
            )
            return connection, await connection.start_sftp_client()

        connection, client = runner.run(log_in())
        yield lambda name, path: runner.run(client.put(str(path), f"{url.path}/{name}"))
        connection.abort()


@contextmanager
def smb(written: Mapping[str, Any]) -> Iterator[Put]:
    import smbclient

    url = urlsplit(written["url"])
    host, port = url.hostname or "", url.port or 445
    login = {"username": written["username"], "password": written["password"]}
    smbclient.register_session(host, port=port, encrypt=True, **login)

    def put(name: str, path: Path) -> None:
        place = rf"\\{host}" + url.path.replace("/", "\\") + f"\\{name}"
        with path.open("rb") as source, smbclient.open_file(place, mode="wb", port=port, **login) as target:
            shutil.copyfileobj(source, target, CHUNK)

    yield put
    smbclient.reset_connection_cache()


@contextmanager
def ftp(written: Mapping[str, Any]) -> Iterator[Put]:
    url = urlsplit(written["url"])
    with ftplib.FTP() as client:
        client.connect(url.hostname or "", url.port or 21, timeout=60)
        client.login(url.username or "", written["password"])
        client.cwd(url.path.strip("/"))

        def put(name: str, path: Path) -> None:
            with path.open("rb") as source:
                client.storbinary(f"STOR {name}", source)

        yield put


@contextmanager
def webdav(written: Mapping[str, Any]) -> Iterator[Put]:
    url = urlsplit(written["url"])
    login = b64encode(f"{written['username']}:{written['password']}".encode()).decode()
    client = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=60)

    def put(name: str, path: Path) -> None:
        with path.open("rb") as source:
            headers = {"Authorization": f"Basic {login}", "Content-Length": str(path.stat().st_size)}
            client.request("PUT", f"{url.path}/{name}", source, headers)
            answer = client.getresponse()
            answer.read()
        assert answer.status in {201, 204}, answer.status

    yield put
    client.close()


@contextmanager
def s3(written: Mapping[str, Any]) -> Iterator[Put]:
    from botocore.config import Config
    from botocore.session import Session

    url = urlsplit(written["url"])
    client = Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=written["options"]["endpointUrl"],
        aws_access_key_id=written["username"],
        aws_secret_access_key=written["password"],
        config=Config(proxies={}, s3={"addressing_style": "path"}),
    )

    def put(name: str, path: Path) -> None:
        with path.open("rb") as source:
            client.put_object(Bucket=url.netloc, Key=f"{url.path.strip('/')}/{name}", Body=source)

    yield put
    client.close()


@contextmanager
def azure(written: Mapping[str, Any]) -> Iterator[Put]:
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import ContainerClient

    url = urlsplit(written["url"])
    container, _, root = url.path.strip("/").partition("/")
    credential = AzureNamedKeyCredential(url.netloc, written["password"])
    with ContainerClient(written["options"]["endpointUrl"], container, credential=credential) as client:

        def put(name: str, path: Path) -> None:
            with path.open("rb") as source:
                client.upload_blob(f"{root}/{name}", source)

        yield put


@contextmanager
def gcs(written: Mapping[str, Any]) -> Iterator[Put]:
    import requests

    url = urlsplit(written["url"])
    with requests.Session() as client:

        def put(name: str, path: Path) -> None:
            with path.open("rb") as source:
                client.post(
                    f"{written['options']['endpointUrl']}/upload/storage/v1/b/{url.netloc}/o",
                    params={"uploadType": "media", "name": f"{unquote(url.path).strip('/')}/{name}"},
                    data=source,
                    timeout=60,
                ).raise_for_status()

        yield put


PLAIN: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "sftp": sftp,
    "smb": smb,
    "ftp": ftp,
    "webdav": webdav,
    "s3": s3,
    "azure": azure,
    "gcs": gcs,
}


def put_one(who: str, written: Mapping[str, Any], file: Path, name: str) -> None:
    """In a process of its own: says what it cost as JSON."""
    small = file.with_name("small")
    with (ours if who == "ours" else PLAIN[written["type"]])(written) as put:
        put(f"{name}-small", small)
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is forgotten: man 5 proc
        start, began = resident("VmRSS"), time.perf_counter()
        put(name, file)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "above": resident("VmHWM") - start}))


def measure(kind: str, file: Path, rounds: int, home: Path) -> None:
    """One line for a kind, or why there is none."""
    spent: dict[str, list[Mapping[str, float]]] = {"ours": [], "plain": []}
    with place_of(kind, home, Straight) as place:
        for number in range(rounds):
            for who, answers in spent.items():
                words = [who, json.dumps(place.destination), str(file), f"{who}-{number}"]
                command = [sys.executable, "-m", "tests.bench.destinations", "--one", *words]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
                if done.returncode != 0:
                    raise SystemExit(f"{kind}, {who}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
                answers.append(json.loads(done.stdout))
                if place.root is not None:
                    (place.root / f"{who}-{number}").unlink()
                elif place.outside is not None:
                    place.outside.take(f"{who}-{number}")
    mega = file.stat().st_size / 1e6
    mine, theirs = (mega / min(each["seconds"] for each in spent[who]) for who in ("ours", "plain"))
    above, plainly = (max(each["above"] for each in spent[who]) / 2**20 for who in ("ours", "plain"))
    print(
        f"  {kind:8} {mine:8.0f} MB/s {theirs:8.0f} MB/s {theirs / mine:8.2f}× {above:9.1f} MiB {plainly:9.1f} MiB"
        f"{'' if above <= AIM_MIB else '   more than it may take'}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.destinations", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk, not a tmpfs")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        who, written, file, name = chosen.one
        put_one(who, json.loads(written), Path(file), name)
        return 0
    logging.basicConfig(level=logging.WARNING)  # else a server in this process makes itself heard
    with tempfile.TemporaryDirectory(prefix="maildaemon-bench-", dir=chosen.folder) as named:
        home = Path(named)
        home.chmod(0o755)
        (home / "small").write_bytes(b"small")
        with (home / "large").open("wb") as large:
            block = bytes(range(250)) * 4000
            for _ in range(chosen.megabytes):
                large.write(block)
        print(f"a file of {chosen.megabytes} MB, the best of {chosen.rounds} rounds by turns; memory above the start")
        print(f"\n{'':10} {'ours':>13} {'plain put':>13} {'times':>9} {'ours':>13} {'plain put':>13}")
        for kind in chosen.kinds:
            folder = home / kind
            folder.mkdir()
            try:
                measure(kind, home / "large", chosen.rounds, folder)
            except pytest.skip.Exception as skipped:
                print(f"  {kind:8} NOT MEASURED: {skipped}")
        print(f"\nthe aim: at most {AIM_MIB} MiB above the start, and half the speed of the plain put for SFTP")
    return 0


if __name__ == "__main__":
    sys.exit(main())
