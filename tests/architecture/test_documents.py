"""What the documents point to exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_of_ours_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    ours = [link for link in links if "://" not in link]
    assert [link for link in ours if not (document.parent / link).exists()] == []


def test_the_index_names_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [path for path in written if path != "README.md" and f"({path})" not in index] == []


def test_the_sessions_and_extras_that_the_readme_names_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    sessions = {word for line in re.findall(r"noxfile\.py((?: [a-z]+)+)", readme) for word in line.split()}
    extras = {word for line in re.findall(r"\.\[([a-z,]+)\]", readme) for word in line.split(",")}
    assert {"demo", "tests"} <= sessions
    assert [name for name in sessions if f"def {name}(session" not in noxfile] == []
    assert extras
    assert extras <= project["optional-dependencies"].keys()
