"""A server of lines that behaves, but for the commands for which it has been told what to do instead."""

from __future__ import annotations

import abc
import contextlib
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.servers.listening import Listening

Act = bytes | Callable[[Any], None]
"""Bytes to send, or something to do with the conversation."""


class ScriptedServer(Listening):
    """Plain text on ``port`` of 127.0.0.1, TLS if there is a ``context``, with ``upgrade`` only once it was asked for.

    ``lines`` holds what clients sent, ``connections`` counts them.
    """

    def __init__(self, *, greeting: bytes, context: ssl.SSLContext | None, upgrade: bool) -> None:
        super().__init__()
        self.greeting = greeting
        self.context = context
        self.upgrade = upgrade
        self.lines: list[str] = []
        self._instead: list[tuple[str, deque[tuple[Act, ...]], bool]] = []
        self._dialogues: list[Dialogue] = []

    @abc.abstractmethod
    def _begin(self, client: socket.socket) -> Dialogue:
        """Begins to talk with a client."""

    def _meet(self, client: socket.socket) -> None:
        self._dialogues.append(self._begin(client))

    def _leave(self) -> None:
        for dialogue in self._dialogues:
            dialogue.close()
            dialogue.thread.join()

    def instead(self, command: str, *steps: Act, always: bool = False) -> None:
        """What is done at the next command that begins with (or, as a pattern, matches) ``command``; or at each."""
        for known, queue, forever in self._instead:
            if known == command and not (forever or always):
                queue.append(steps)
                return
        self._instead.append((command, deque([steps]), always))

    def told(self, line: str) -> tuple[Act, ...] | None:
        for command, queue, always in self._instead:
            if queue and re.match(command, line, re.IGNORECASE):
                return queue[0] if always else queue.popleft()
        return None


class Dialogue(abc.ABC):
    """One connection; ``line`` is the command in hand."""

    def __init__(self, server: ScriptedServer, client: socket.socket) -> None:
        self._scripted = server
        self.line = ""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        self._file = client.makefile("rb")
        self.thread = threading.Thread(target=self._run, name=f"{type(self).__name__}-talk", daemon=True)
        self.thread.start()

    @abc.abstractmethod
    def behave(self) -> None:
        """What a server does that has not been told otherwise."""

    def take(self, line: str) -> str:
        """The command in a line that the client sent."""
        return line

    def send(self, data: bytes) -> None:
        self._client.sendall(data)

    def heard(self) -> str:
        """The next line that the client sends, whatever it is; it is noted with the others."""
        line = self._file.readline().rstrip(b"\r\n").decode("latin-1")
        self._scripted.lines.append(line)
        return line

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def secure(self, context: ssl.SSLContext) -> None:
        self._file.close()
        self._client = context.wrap_socket(self._client, server_side=True)
        self._file = self._client.makefile("rb")

    def _run(self) -> None:
        server = self._scripted
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(self._shut)  # whatever they are by then
            if server.context is not None and not server.upgrade:
                self.secure(server.context)
            self.send(server.greeting)
            while raw := self._file.readline():
                self.line = self.take(raw.rstrip(b"\r\n").decode("latin-1"))
                server.lines.append(self.line)
                steps = server.told(self.line)
                for step in (behave,) if steps is None else steps:
                    if isinstance(step, bytes):
                        self.send(step)
                    else:
                        step(self)

    def _shut(self) -> None:
        self._file.close()
        self._client.close()


def cut(dialogue: Dialogue) -> None:
    """The connection ends."""
    dialogue.close()


def behave(dialogue: Dialogue) -> None:
    """What a server does that has not been told otherwise."""
    dialogue.behave()


def drip(data: bytes, *, every: float) -> Callable[[Dialogue], None]:
    """A byte now and then."""

    def step(dialogue: Dialogue) -> None:
        for byte in data:
            time.sleep(every)
            dialogue.send(bytes([byte]))

    return step
