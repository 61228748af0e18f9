"""The proxy goes wrong exactly as it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.process import LOOPBACK
from tests.servers.proxy import ChaosProxy, Fault

DATA = bytes(range(256)) * 1000


@pytest.fixture
def sender() -> Iterator[int]:
    """A server that sends DATA to each client, and then waits for it to close."""
    listener = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                try:
                    client.sendall(DATA)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(1024):
                        pass
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def read_all(port: int, *, timeout: float = 10.0) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=timeout) as client:
        received = b""
        while piece := client.recv(1 << 16):
            received += piece
        return received


def test_without_a_fault_everything_passes(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        assert read_all(proxy.port) == DATA
        assert (proxy.connections, proxy.bytes_down) == (1, len(DATA))


def test_a_cut_ends_the_data_at_that_byte(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        proxy.fault = Fault(cut_after=70_001)
        assert read_all(proxy.port) == DATA[:70_001]


def test_a_reset_is_a_reset_and_no_end_of_data(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        proxy.fault = Fault(reset_after=70_001)
        with pytest.raises(ConnectionResetError):
            read_all(proxy.port)


def test_a_stalled_connection_stays_open_and_silent(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        proxy.fault = Fault(stall_after=10)
        with pytest.raises(TimeoutError):
            read_all(proxy.port, timeout=0.3)
        proxy.fault = Fault()
        assert read_all(proxy.port) == DATA


def test_a_flipped_bit_is_one_bit(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        proxy.fault = Fault(flip_at=100_000)
        received = read_all(proxy.port)
    assert [at for at, (was, now) in enumerate(zip(DATA, received, strict=True)) if was != now] == [100_000]
    assert received[100_000] == DATA[100_000] ^ 1


def test_a_rate_makes_it_slow(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        proxy.fault = Fault(rate=len(DATA) / 0.3)
        began = time.monotonic()
        assert read_all(proxy.port) == DATA
        assert time.monotonic() - began > 0.25


def test_a_refused_client_hears_nothing_and_a_dropped_one_hears_the_end(sender: int) -> None:
    with ChaosProxy(sender) as proxy:
        proxy.fault = Fault(refuse=True)
        assert read_all(proxy.port) == b""
        proxy.fault = Fault(stall_after=3)
        with socket.create_connection((LOOPBACK, proxy.port), timeout=10) as client:
            assert client.recv(10) == DATA[:3]
            proxy.drop_all()
            assert client.recv(10) == b""
