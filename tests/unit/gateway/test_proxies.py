"""Whose word on the caller's address counts."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from faas.config import BY_KEY, load_config
from faas.errors import Invalid
from faas.gateway.proxies import Proxies, is_local, neighbourhood

TRUSTED = Proxies([ip_network(network) for network in ("10.0.0.0/8", "127.0.0.1", "fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["9.9.9.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["9.9.9.9", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1:4711, [fd00::1]:80"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["x" * 5000], "10.0.0.1"),
        ("10.0.0.1", ["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_the_callers_address(peer: str, forwarded: list[str], client: str) -> None:
    headers = CIMultiDict([("Host", "x"), *(("X-Forwarded-For", line) for line in forwarded)])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    assert TRUSTED.seen(request).remote == client


def test_scheme_and_host_come_from_the_same_hop() -> None:
    headers = {
        "Host": "inner:8080",
        "X-Forwarded-For": "9.9.9.9, 198.51.100.1, 10.0.0.2",
        "X-Forwarded-Proto": "gopher, https, http",
        "X-Forwarded-Host": "evil.test, www.test:8443, inner",
    }
    seen = TRUSTED.seen(make_mocked_request("GET", "/a", headers=headers).clone(remote="10.0.0.1"))
    assert (seen.scheme, seen.host, str(seen.rel_url)) == ("https", "www.test:8443", "/a")
    replaced = headers | {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "www.test"}
    seen = TRUSTED.seen(make_mocked_request("GET", "/a", headers=replaced).clone(remote="10.0.0.1"))
    assert (seen.scheme, seen.host) == ("https", "www.test")


def test_what_makes_no_sense_is_left_out() -> None:
    headers = {"Host": "x", "X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "ftp", "X-Forwarded-Host": "a b/"}
    seen = TRUSTED.seen(make_mocked_request("GET", "/", headers=headers).clone(remote="10.0.0.1"))
    assert (seen.scheme, seen.host, seen.remote) == ("http", "x", "198.51.100.1")


def test_nobody_is_trusted_unless_named() -> None:
    assert not Proxies()
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": "1.2.3.4"}).clone(remote="127.0.0.1")
    assert Proxies().seen(request) is request


def test_local_addresses() -> None:
    assert [is_local(address) for address in ("", "127.0.0.1", "127.8.8.8", "::1")] == [True] * 4
    assert [is_local(address) for address in ("10.0.0.1", "::2", "128.0.0.1", "1270.test")] == [False] * 4


def test_what_counts_as_one_client() -> None:
    assert neighbourhood("203.0.113.7") == "203.0.113.7"
    assert neighbourhood("2001:db8:0:1::5") == neighbourhood("2001:db8:0:1:ffff::") != neighbourhood("2001:db8:0:2::5")
    assert neighbourhood("fe80::1%eth0") == "fe80::/64"
    assert neighbourhood("::bad::") == "::bad::"


@pytest.mark.parametrize(
    "given", ["10.0.0.0/8, ::1", ["10.0.0.0/8", "::1"], (ip_network("10.0.0.0/8"), ip_network("::1"))]
)
def test_networks_are_read_from_flags_and_files(given: object) -> None:
    config = load_config({"trusted_proxies": given}, {}, root=False)
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert load_config({}, {}, root=False).trusted_proxies == ()
    assert BY_KEY["trusted_proxies"].kind.show(config.trusted_proxies) == "10.0.0.0/8,::1/128"


@pytest.mark.parametrize(
    ("given", "said"),
    [("10.0.0.1/8", "host bits set"), ("proxy.test", "is not a network"), (7, "is not a list"), ("1/33", "not a netw")],
)
def test_what_is_no_network(given: object, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        load_config({"trusted_proxies": given}, {}, root=False)
