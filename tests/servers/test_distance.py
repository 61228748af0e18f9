"""The proxy adds to the round trip what it is told to, and nothing for each piece."""

from __future__ import annotations

import socket
import time

from tests.servers.distance import FarAway
from tests.servers.process import LOOPBACK
from tests.servers.scripted_imap import ScriptedImap


def test_a_round_trip_takes_longer_and_many_pieces_take_no_longer_than_one() -> None:
    with (
        ScriptedImap(mails={1: b"Subject: large\r\n\r\n" + b"x" * 3_000_000}) as server,
        FarAway(server.port, round_trip=0.2) as proxy,
        socket.create_connection((LOOPBACK, proxy.port), timeout=10) as client,
        client.makefile("rb") as answers,
    ):
        assert answers.readline() == b"* OK scripted\r\n"
        for command, longest in ((b"a NOOP\r\n", 2.0), (b"b UID FETCH 1 BODY.PEEK[]\r\n", 5.0)):
            began = time.monotonic()
            client.sendall(command)
            while not answers.readline().startswith(command[:1] + b" OK"):
                pass
            assert 0.2 <= time.monotonic() - began < longest
        assert proxy.connections == 1


def test_the_end_of_a_connection_arrives_too() -> None:
    with (
        ScriptedImap() as server,
        FarAway(server.port, round_trip=0.05) as proxy,
        socket.create_connection((LOOPBACK, proxy.port), timeout=10) as client,
    ):
        client.recv(100)
        client.sendall(b"a LOGOUT\r\n")
        client.shutdown(socket.SHUT_WR)
        received = b"?"
        while received:
            received = client.recv(1000)
