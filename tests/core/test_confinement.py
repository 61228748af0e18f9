"""What mailboxes may reach: no spelling of an address slips through, and no path leads out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maildaemon_core import codec
from maildaemon_core.confinement import (
    REFUSED,
    Confinement,
    ConnectionForbidden,
    OutOfBounds,
    address_fault,
    local_path,
    local_path_fields,
    options_problems,
    placed,
    require_within,
)
from maildaemon_core.errors import InvalidOptions
from maildaemon_core.options import DestinationOptions, MailboxOptions

BY_DEFAULT = Confinement()
LOCAL = Confinement(allow_networks=("127.0.0.0/8", "::1/128"))


def is_free(address: object, confinement: Confinement = BY_DEFAULT) -> bool:
    return address_fault(confinement, str(address)) is None


# ---- addresses ----


PUBLIC = int(IPv4Address("93.184.216.34"))


def spellings(inner: IPv4Address) -> list[IPv6Address]:
    """Every IPv6 address that is known to lead to an IPv4 address."""
    number = int(inner)
    return [
        IPv6Address(f"::ffff:{inner}"),
        IPv6Address(f"::ffff:0:{inner}"),
        IPv6Address(f"64:ff9b::{inner}"),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x20010000 << 96 | PUBLIC << 64 | 0xFFFFFFFF ^ number),
        IPv6Address(0x20010000 << 96 | number << 64 | 0xFFFFFFFF ^ PUBLIC),
        IPv6Address(f"2001:db8::5efe:{inner}"),
        IPv6Address(f"2001:db8::200:5efe:{inner}"),
        *([IPv6Address(number)] if number > 1 else []),
    ]


def within(network: str) -> st.SearchStrategy[Any]:
    found = ip_network(network)
    build = IPv4Address if isinstance(found, IPv4Network) else IPv6Address
    return st.integers(int(found[0]), int(found[-1])).map(build)


refused_addresses = st.sampled_from(sorted(REFUSED)).flatmap(within)
refused_v4 = st.sampled_from([each for each in sorted(REFUSED) if ":" not in each]).flatmap(within)


@given(refused_addresses)
def test_what_is_refused_by_default_is_refused_however_it_is_written(address: Any) -> None:
    assert not is_free(address)
    assert not is_free(address.exploded)
    assert not is_free(str(address).upper())


@given(refused_v4, st.data())
def test_an_address_within_another_never_slips_through(inner: IPv4Address, data: st.DataObject) -> None:
    outer = data.draw(st.sampled_from(spellings(inner)))
    assert not is_free(outer)
    assert not is_free(f"{outer}%eth0")


@given(st.ip_addresses(v=4), st.data())
def test_an_address_within_another_is_free_only_if_it_is_free_itself(inner: IPv4Address, data: st.DataObject) -> None:
    outer = data.draw(st.sampled_from(spellings(inner)))
    assert is_free(inner) or not is_free(outer)
    mapped = IPv6Address(f"::ffff:{inner}")
    assert is_free(mapped) is is_free(inner)
    assert is_free(mapped, LOCAL) is is_free(inner, LOCAL)


@given(st.ip_addresses())
def test_what_is_denied_is_refused_and_what_is_allowed_is_not_unless_it_holds_another(address: Any) -> None:
    width = 32 if address.version == 4 else 128
    assert not is_free(address, Confinement(deny_networks=(f"{address}/{width}",)))
    allowed = Confinement(allow_networks=(f"{address}/{width}", "0.0.0.0/0"))
    assert is_free(address, allowed) or address.version == 6


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "::", "169.254.169.254", "169.254.1.1", "fe80::1%eth0"),
        *("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254", "224.0.0.1", "ff02::1"),
        *("255.255.255.255", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
        "64:ff9b:1::7f00:1",
    ],
)
def test_a_service_reaches_neither_itself_nor_its_cloud(address: str) -> None:
    assert not is_free(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "10.0.0.7", "172.16.3.4", "192.168.1.9", "2a00:1450::1", "fd12:3456::1", "100.64.0.1",
     "::ffff:10.0.0.7", "64:ff9b::5db8:d822", "2002:5db8:d822::1"],
)  # fmt: skip
def test_servers_of_the_world_and_of_ones_own_network_are_free(address: str) -> None:
    assert is_free(address)


@pytest.mark.parametrize(
    "written", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1 ", "", "<broadcast>", "１"]
)
def test_what_is_no_address_to_the_letter_is_not_connected_to(written: str) -> None:
    assert "cannot be judged" in (address_fault(BY_DEFAULT, written) or "")
    assert "cannot be judged" in (address_fault(Confinement(allow_networks=("0.0.0.0/0", "::/0")), written) or "")


def test_the_narrowest_network_decides() -> None:
    wide = Confinement(allow_networks=("169.254.0.0/16",))
    assert is_free("169.254.1.1", wide)
    assert not is_free("169.254.169.254", wide)
    assert is_free("169.254.169.254", Confinement(allow_networks=("169.254.169.254",)))
    assert not is_free("127.0.0.1", Confinement(allow_networks=("0.0.0.0/0",)))
    only = Confinement(deny_networks=("0.0.0.0/0", "::/0", "10.1.9.0/24"), allow_networks=("10.1.0.0/16",))
    assert is_free("10.1.2.3", only)
    assert not is_free("10.1.9.3", only)
    assert not is_free("93.184.216.34", only)
    assert not is_free("2a00:1450::1", only)
    assert not is_free("10.1.0.1", Confinement(deny_networks=("10.1.0.0/16",), allow_networks=("10.1.0.0/16",)))


def test_an_address_says_what_it_is() -> None:
    assert address_fault(BY_DEFAULT, "127.0.0.1") == "127.0.0.1 is this machine itself"
    assert address_fault(BY_DEFAULT, "::ffff:169.254.169.254") == (
        "::ffff:169.254.169.254 stands for 169.254.169.254, which is metadata of the cloud"
    )
    denied = address_fault(Confinement(deny_networks=("10.0.0.0/8",)), "10.0.0.1")
    assert denied == "10.0.0.1 is in a network that the operator of this service keeps out"


def test_a_forbidden_connection_is_an_error_of_the_system_that_says_it_all() -> None:
    error = ConnectionForbidden("10.0.0.1 is kept out", "its operator can")
    assert isinstance(error, PermissionError)
    assert error.strerror == "this service lets no mailbox connect there: 10.0.0.1 is kept out; its operator can"
    assert error.strerror in str(error)


# ---- as a table of the configuration ----


def test_it_is_read_from_a_table_and_every_fault_is_told() -> None:
    table = {"sources": ["imap"], "allowNetworks": ["10.1.0.0/16", "fd00::1"], "roots": ["data"], "hosts": ["*.a.de"]}
    read = codec.read(Confinement, table)
    assert read == Confinement(
        sources=("imap",), allow_networks=("10.1.0.0/16", "fd00::1"), roots=("data",), hosts=("*.a.de",)
    )
    assert codec.read(Confinement, codec.write(read)) == read
    assert codec.read(Confinement, {}) == BY_DEFAULT
    with pytest.raises(InvalidOptions) as caught:
        codec.read(Confinement, {"allowNetworks": ["10.1.0.0/16", "10.1.2.3/16"], "denyNetworks": ["x"], "roots": [""]})
    assert {(each.path, each.message.split()[0]) for each in caught.value.problems} == {
        ("$.allowNetworks", "[1]"),
        ("$.denyNetworks", "[0]"),
        ("$.roots", "must"),
    }


# ---- options ----


def said(confinement: Confinement, **options: Any) -> dict[str, str]:
    found = options_problems(confinement, MailboxOptions(**options))
    assert len({each.path for each in found}) == len(found)
    return {each.path: each.message for each in found}


def to(url: str, type_: str = "sftp") -> dict[str, Any]:
    return {"destinations": (DestinationOptions(type=type_, url=url),)}


def test_kinds_are_limited_whatever_they_are_called() -> None:
    only = Confinement(sources=("imap4",), destinations=("sftp",))
    assert said(only, type="IMAP", **to("sftp://files.example/in", "ssh")) == {}
    found = said(only, type="graph", **to("/srv/mail", "file"))
    assert set(found) == {"$.type", "$.destinations[0].type"}
    assert found["$.type"] == (
        "this service allows sources of these kinds only: imap; its operator can allow more: sources"
    )
    assert "none" in said(Confinement(sources=()), type="imap")["$.type"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "[::1]", "localhost", "LOCALHOST.", "mail.localhost", "169.254.169.254", "::ffff:127.0.0.1",
     "fe80::1%eth0", "0.0.0.0"],
)  # fmt: skip
def test_a_server_that_may_not_be_connected_to_is_refused_as_soon_as_it_is_named(host: str) -> None:
    assert "allowNetworks" in said(BY_DEFAULT, host=host)["$.host"]
    bracketed = f"[{host.strip('[]').removesuffix('%eth0')}]" if ":" in host else host  # no URL has a scope
    for url in (f"sftp://{bracketed}/in", f"sftp://me@{bracketed}:22/in", f"HTTPS://{bracketed}"):
        assert set(said(BY_DEFAULT, **to(url))) == {"$.destinations[0].url"}
        assert set(said(BY_DEFAULT, path=url)) == {"$.path"}


def test_what_is_allowed_is_not_refused_when_it_is_named() -> None:
    assert said(LOCAL, host="localhost", **to("sftp://127.0.0.1/in")) == {}
    assert said(Confinement(allow_networks=("127.0.0.1",)), host="localhost") == {}


def test_names_are_not_looked_up() -> None:
    assert said(BY_DEFAULT, host="imap.example.com", **to("sftp://files.example.com:2222/in")) == {}
    assert said(BY_DEFAULT, host="2130706433") == {}


def test_only_the_servers_that_the_operator_names_may_be_named() -> None:
    only = Confinement(hosts=("*.Example.com", "10.1.*"))
    assert said(only, host="IMAP.example.com.", **to("sftp://me@10.1.2.3/in")) == {}
    for host in ("example.com", "imap.example.com.evil.net", "evil.net", "10.2.0.1", "::1"):
        assert "allows only the servers *.Example.com, 10.1.*" in said(only, host=host)["$.host"]
    assert set(said(only, **to("sftp://imap.example.com@evil.net/"))) == {"$.destinations[0].url"}
    assert set(said(only, **to("sftp://evil.net\\.example.com/"))) == {"$.destinations[0].url"}
    for url in ("sftp://imap.example.com\\@evil.net/", "sftp://imap.example.com\\.evil.net/", " sftp://evil.net/"):
        assert set(said(only, **to(url))) == {"$.destinations[0].url"}  # programs disagree on who is meant
    assert set(said(only, **to("sftp://evil%2enet/"))) == {"$.destinations[0].url"}
    assert said(only, **to("sftp://imap%2eexample.com/")) == {}


@pytest.mark.parametrize("name", ["oauthAuthority", "oauthTokenUrl"])
def test_whoever_gives_tokens_is_a_server_that_is_named(name: str) -> None:
    at = {f"$.options.{name}"}
    only = Confinement(hosts=("*.example.com",))
    for url in ("https://127.0.0.1:8080/token", "https://localhost/token", "https://[::1]"):
        assert set(said(BY_DEFAULT, options={name: url})) == at
        assert said(LOCAL, options={name: url}) == {}
    for url in ("https://evil.net/", "https://id.example.com@evil.net/", "https://id.example.com\\@evil.net/"):
        assert set(said(only, options={name: url})) == at
    for fine in ("https://id.example.com/token", None, 7):
        assert said(only, options={name: fine}) == {}


@pytest.mark.parametrize("url", ["s3://localhost/in", "file:///srv/mail", "file://localhost/srv", "/srv", "memory:one"])
def test_a_bucket_and_a_folder_are_no_servers(url: str) -> None:
    assert said(Confinement(hosts=("*.example.com",)), **to(url, "s3" if url.startswith("s3") else "file")) == {}


# ---- folders ----


@pytest.mark.parametrize(
    ("place", "path", "of_a_local_kind"),
    [
        (None, None, None),
        ("", None, None),
        ("/srv/mail", "/srv/mail", "/srv/mail"),
        ("invoices", "invoices", "invoices"),
        ("file:///srv/a%20b", "/srv/a b", "/srv/a b"),
        ("FILE://localhost/srv", "/srv", "/srv"),
        ("file:/srv/%2e%2e/etc", "/srv/../etc", "/srv/../etc"),
        ("file://other/srv", "/srv", "/srv"),
        ("sftp://files.example/in", None, None),
        ("memory:one", None, "memory:one"),
        ("mbox:///etc/passwd", None, "mbox:///etc/passwd"),
    ],
)
def test_what_a_place_names_on_this_machine(place: str | None, path: str | None, of_a_local_kind: str | None) -> None:
    assert local_path(place, is_local_kind=False) == path
    assert local_path(place, is_local_kind=True) == of_a_local_kind


FOLDERS = ("/srv/data", "/mnt/more/")
paths = st.lists(st.sampled_from(["..", ".", "", "srv", "data", "mnt", "more", "etc", "~", ".ssh", "a b", "\0"])).map(
    "/".join
)


@given(st.one_of(paths, paths.map("/{}".format), paths.map("/srv/data/{}".format), st.text()))
def test_a_path_is_placed_within_a_folder_or_refused(path: str) -> None:
    try:
        whole = placed(path, FOLDERS)
    except OutOfBounds:
        return
    assert any(f"{whole}/".startswith(f"{folder.rstrip('/')}/") for folder in FOLDERS)
    assert ".." not in whole.split("/")
    assert not any(step.startswith(".") for step in whole.split("/"))
    assert placed(whole, FOLDERS) == whole
    require_within(whole, FOLDERS)


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("invoices", "/srv/data/invoices"),
        ("./a//b/", "/srv/data/a/b"),
        (".", "/srv/data"),
        ("/srv/data", "/srv/data"),
        ("//srv/data/a", "/srv/data/a"),
        ("/mnt/more/x", "/mnt/more/x"),
        ("a..b", "/srv/data/a..b"),
    ],
)
def test_relative_paths_begin_at_the_first_folder(path: str, whole: str) -> None:
    assert placed(path, FOLDERS) == whole


@pytest.mark.parametrize(
    "path",
    ["/", "/srv", "/srv/database", "/etc/passwd", "../x", "a/../../x", "/srv/data/../x", "~/x", "~root", "a\0b",
     ".maildaemon/x", "a/.ssh", "/srv/data/.git"],
)  # fmt: skip
def test_what_lies_elsewhere_or_is_hidden_is_refused(path: str) -> None:
    with pytest.raises(OutOfBounds):
        placed(path, FOLDERS)


def test_a_folder_may_lie_in_a_hidden_one_and_without_folders_there_are_no_files() -> None:
    assert placed("x", ["/home/me/.local/data"]) == "/home/me/.local/data/x"
    with pytest.raises(OutOfBounds, match="no files"):
        placed("x", ())


def test_settings_say_which_of_them_name_files() -> None:
    @attrs.frozen(kw_only=True)
    class Settings:
        name: str = ""
        ca_file: str | None = attrs.field(default=None, metadata={"local_path": True})

    assert local_path_fields(Settings) == ["ca_file"]
