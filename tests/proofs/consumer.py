"""A process that takes every file out of a folder as soon as it sees it, and keeps a list.

    python -m tests.proofs.consumer FOLDER TAKEN

Each file is renamed to ``TAKEN/<number>`` and written down in ``TAKEN.list`` as ``number size sha256 path``.  It also
removes folders that it has emptied: the next file may need them at that moment.  It ends when TAKEN is removed.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from pathlib import Path

from tests.proofs.box import visible
from tests.proofs.samples import print_of


def main(folder: Path, taken: Path) -> int:
    numbers = itertools.count(1)
    with taken.with_suffix(".list").open("a") as book:
        while taken.is_dir():
            for path in visible(folder):
                place = taken / str(next(numbers))
                path.rename(place)
                size, digest = print_of(place.read_bytes())
                book.write(f"{place.name} {size} {digest} {path}\n")
                book.flush()
                with contextlib.suppress(OSError):
                    for above in path.relative_to(folder).parents[:-1]:
                        (folder / above).rmdir()
            time.sleep(0.005)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
