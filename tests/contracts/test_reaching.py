"""Where the servers of object stores are, as they are named to people."""

from __future__ import annotations

import pytest

from maildaemon_adapters.files.objects.reaching import server_of


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://s3.example.com", "s3.example.com:443"),
        ("http://s3.example.com/x", "s3.example.com:80"),
        ("https://s3.example.com:9000", "s3.example.com:9000"),
        ("https://[::1]", "[::1]:443"),
        ("http://[2001:db8::7]:9000", "[2001:db8::7]:9000"),
    ],
)
def test_a_server_is_named_by_its_host_and_port(url: str, server: str) -> None:
    assert server_of(url) == server
