"""What the answers of SMB servers mean for whoever stores files: NTSTATUS codes, by MS-ERREF §2.3.1."""

from __future__ import annotations

from typing import Final

from maildaemon_adapters.files.tree import Fault, TreeError

END_OF_FILE: Final = 0xC0000011
NO_MORE_FILES: Final = 0x80000006
SHARING_VIOLATION: Final = 0xC0000043
NAME_COLLISION: Final = 0xC0000035
BAD_NETWORK_NAME: Final = 0xC00000CC
ACCESS_DENIED: Final = 0xC0000022

NOT_THERE: Final = frozenset({0xC0000034, 0xC000003A, 0xC000000F, 0xC0000056, 0xC0000225})
"""No such name, path or file; or one that is being deleted."""

NOT_EMPTY: Final = frozenset({0xC0000101, 0xC0000121})

_STATUSES: Final[dict[Fault, dict[int, str]]] = {
    Fault.MISSING: {
        0xC0000034: "OBJECT_NAME_NOT_FOUND",
        0xC000003A: "OBJECT_PATH_NOT_FOUND",
        0xC000000F: "NO_SUCH_FILE",
        0xC0000056: "DELETE_PENDING",
        0xC0000225: "NOT_FOUND",
    },
    Fault.EXISTS: {NAME_COLLISION: "OBJECT_NAME_COLLISION"},
    Fault.BLOCKED: {
        0xC0000103: "NOT_A_DIRECTORY",
        0xC00000BA: "FILE_IS_A_DIRECTORY",
        0x8000002D: "STOPPED_ON_SYMLINK",
        0xC0000257: "PATH_NOT_COVERED",
    },
    Fault.NAME: {
        0xC0000033: "OBJECT_NAME_INVALID",
        0xC0000039: "OBJECT_PATH_INVALID",
        0xC000003B: "OBJECT_PATH_SYNTAX_BAD",
        0xC0000106: "NAME_TOO_LONG",
    },
    Fault.REFUSED_FILE: {
        0xC0000906: "VIRUS_INFECTED",
        0xC0000907: "VIRUS_DELETED",
        0xC0000804: "CONTENT_BLOCKED",
        0xC0000428: "INVALID_IMAGE_HASH",
    },
    Fault.DENIED: {
        ACCESS_DENIED: "ACCESS_DENIED",
        0xC0000061: "PRIVILEGE_NOT_HELD",
        0xC00000A2: "MEDIA_WRITE_PROTECTED",
        0xC0000121: "CANNOT_DELETE",
    },
    Fault.FULL: {
        0xC000007F: "DISK_FULL",
        0xC0000044: "QUOTA_EXCEEDED",
        0xC000055A: "QUOTA_NOT_ENABLED",
    },
    Fault.LOGIN: {
        0xC000006D: "LOGON_FAILURE",
        0xC000006A: "WRONG_PASSWORD",
        0xC0000064: "NO_SUCH_USER",
        0xC000006E: "ACCOUNT_RESTRICTION",
        0xC000006F: "INVALID_LOGON_HOURS",
        0xC0000070: "INVALID_WORKSTATION",
        0xC0000071: "PASSWORD_EXPIRED",
        0xC0000072: "ACCOUNT_DISABLED",
        0xC0000193: "ACCOUNT_EXPIRED",
        0xC0000224: "PASSWORD_MUST_CHANGE",
        0xC0000234: "ACCOUNT_LOCKED_OUT",
        0xC000015B: "LOGON_TYPE_NOT_GRANTED",
        0xC0000413: "AUTHENTICATION_FIREWALL_FAILED",
        0xC0000418: "NTLM_BLOCKED",
    },
    Fault.BUSY: {
        0xC00000D0: "REQUEST_NOT_ACCEPTED",
        0xC00000CE: "TOO_MANY_SESSIONS",
        0xC0000205: "INSUFF_SERVER_RESOURCES",
        0xC000009A: "INSUFFICIENT_RESOURCES",
        0xC0000466: "SERVER_UNAVAILABLE",
    },
    Fault.GONE: {
        BAD_NETWORK_NAME: "BAD_NETWORK_NAME",
        0xC00000C9: "NETWORK_NAME_DELETED",
        0xC00000B5: "IO_TIMEOUT",
        0xC0000203: "USER_SESSION_DELETED",
        0xC000035C: "NETWORK_SESSION_EXPIRED",
        0xC000020C: "CONNECTION_DISCONNECTED",
        0xC000020D: "CONNECTION_RESET",
        0xC000026E: "VOLUME_DISMOUNTED",
    },
}

_FAULTS: Final = {status: fault for fault, statuses in _STATUSES.items() for status in statuses}
_NAMES: Final = {status: name for statuses in _STATUSES.values() for status, name in statuses.items()} | {
    SHARING_VIOLATION: "SHARING_VIOLATION"
}

_WHAT: Final = {
    Fault.MISSING: ("it, or its folder, is not there", "see whether its folder is there"),
    Fault.EXISTS: ("something is there already", "it is left as it is"),
    Fault.BLOCKED: (
        "a file or a link stands where a folder belongs",
        "move it away, or change the path template; for a folder of DFS name the server and the share that it leads to",
    ),
    Fault.NAME: ("the server does not take a name in it", "change the path template"),
    Fault.REFUSED_FILE: ("the server refuses this file", "see its virus scanner or its file screening"),
    Fault.DENIED: (
        "the user may not do that",
        "give that user the right to read, write and delete in share and folder; file screening says no more than this",
    ),
    Fault.FULL: (
        "there is no room left, or the quota is used up",
        "free some space there or have the quota raised; it then goes on by itself",
    ),
    Fault.LOGIN: ("the server does not let this user in with this password", "check username and password"),
    Fault.BUSY: ("the server has too much to do", "it will be tried again later"),
    Fault.GONE: ("the server has ended the connection", "it is made anew when it is needed"),
    Fault.OTHER: ("the server failed", "see its log"),
}

_ACCOUNT: Final = {
    0xC0000071: ("the password has expired", "set a new one there and here"),
    0xC0000224: ("the password has to be changed first", "set a new one there and here"),
    0xC0000072: ("the account is disabled", "have it enabled"),
    0xC0000193: ("the account has expired", "have it renewed"),
    0xC0000234: ("the account is locked", "have it unlocked, and correct the password before it is tried again"),
    0xC0000418: ("the server takes no NTLM", "have NTLM allowed for this account; Kerberos is not used"),
    0xC000015B: ("the account may not log in over the network", "give it the right to"),
    SHARING_VIOLATION: ("somebody else has it open", "it goes on once that program has closed it"),
}


def fault_of(status: int) -> Fault:
    """What an NTSTATUS means."""
    return _FAULTS.get(status, Fault.OTHER)


def told(status: int) -> TreeError:
    """An NTSTATUS in words, with its own name."""
    fault = fault_of(status)
    what, remedy = _ACCOUNT.get(status, _WHAT[fault])
    name = f"STATUS_{_NAMES[status]}" if status in _NAMES else f"status 0x{status:08x}"
    return TreeError(fault, f"{what} ({name})", remedy=remedy)
