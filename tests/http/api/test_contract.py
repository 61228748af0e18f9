"""The API against its own document: whatever schemathesis thinks of is answered as the document says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.http.api.house import House
from tests.http.api.served import served

SETTINGS = Path(__file__).with_name("schemathesis.toml")


def tried(house: House, folder: Path, *, examples: int, only: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """What schemathesis says of the service, with all of its checks."""
    with served(house.app) as url:
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(SETTINGS)),
            *("run", f"{url}/openapi.json", "--header", f"x-api-key: {house.key()}", "--checks", "all"),
            *("--max-examples", str(examples), "--seed", "1", "--no-color", "--continue-on-failure", *only),
        ]
        environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "examples")}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env=environment, timeout=3000, check=False
        )


@pytest.mark.heavy
@pytest.mark.timeout(3000)
def test_every_operation_does_what_the_document_says(house: House, tmp_path: Path, heavy: bool) -> None:
    done = tried(house, tmp_path, examples=100 if heavy else 5)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Stateful" in done.stdout
