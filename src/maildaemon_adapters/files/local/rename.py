"""How one rename refuses an existing target: by the kernel where it can, else under a lock.

Link and unlink would be two steps: a consumer could take the file between them and get it again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final, Protocol

if sys.platform != "win32":
    import fcntl

_RENAME_NOREPLACE: Final = 1
_RENAME_EXCL: Final = 4
_RENAMEAT2: Final = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "loongarch64": 276, "ppc64le": 357, "s390x": 347}
"""Numbers of the system call, for C libraries that have no function for it (musl before 1.2.6)."""

# NFS and some FUSE file systems say EINVAL, old kernels ENOSYS, macOS ENOTSUP.
_CANNOT: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


class Rename(Protocol):
    """Gives ``source`` inside ``source_folder`` the name ``target`` inside ``target_folder`` (open descriptors).

    Raises ``FileExistsError``, with nothing changed, if there is anything under that name, be it a dangling link.
    """

    def __call__(self, source_folder: int, source: str, target_folder: int, target: str, /) -> None: ...


def rename_new(source_folder: int, source: str, target_folder: int, target: str, /) -> None:
    """One rename that refuses an existing target: ``renameat2(RENAME_NOREPLACE)`` on Linux (rename(2)),
    ``renameatx_np(RENAME_EXCL)`` on macOS; ``rename_locked`` on file systems that cannot.
    """
    call = _kernel()
    code = errno.ENOSYS
    if call is not None:
        code = call(source_folder, os.fsencode(source), target_folder, os.fsencode(target))
    if code in _CANNOT:
        rename_locked(source_folder, source, target_folder, target)
    elif code:
        raise OSError(code, os.strerror(code), target)


def rename_locked(source_folder: int, source: str, target_folder: int, target: str, /) -> None:
    """Looks whether the target is free and then renames, both under an exclusive lock on the source folder.

    All maildaemons of one root share that folder, so they cannot overwrite each other (besides, the ledger reserves
    each path for one mail).  What remains is a stranger who makes a file of that name in the microseconds between: only
    on file systems that offer nothing better.  Where there are no locks either, it goes without.
    """
    with suppress(OSError):
        fcntl.flock(source_folder, fcntl.LOCK_EX)
    try:
        try:
            os.lstat(target, dir_fd=target_folder)
        except FileNotFoundError:
            os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    finally:
        with suppress(OSError):
            fcntl.flock(source_folder, fcntl.LOCK_UN)


def refuses_in_the_kernel(folder: int, source: str, target: str) -> bool:
    """Whether the file system refuses an existing target by itself; both names exist inside ``folder``."""
    call = _kernel()
    return call is not None and call(folder, os.fsencode(source), folder, os.fsencode(target)) == errno.EEXIST


@cache
def _kernel() -> Callable[[int, bytes, int, bytes], int] | None:
    """The call that renames and refuses, answering with an errno; None where there is none."""
    library = ctypes.CDLL(None, use_errno=True)
    leading: tuple[int, ...] = ()
    if sys.platform == "linux":
        flag = _RENAME_NOREPLACE
        function = getattr(library, "renameat2", None)
        number = _RENAMEAT2.get(platform.machine())
        if function is None and number is not None:
            function, leading = library.syscall, (number,)
    else:
        flag, function = _RENAME_EXCL, getattr(library, "renameatx_np", None)
    if function is None:
        return None
    arguments = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.argtypes = [ctypes.c_long, *arguments] if leading else arguments
    function.restype = ctypes.c_long if leading else ctypes.c_int

    def call(source_folder: int, source: bytes, target_folder: int, target: bytes) -> int:
        ctypes.set_errno(0)
        failed = function(*leading, source_folder, source, target_folder, target, flag)
        return ctypes.get_errno() if failed else 0

    return call
