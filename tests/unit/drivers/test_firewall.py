"""The rules as text, and which name servers stay open."""

from __future__ import annotations

from pathlib import Path

import pytest

from faas.drivers.firewall import METADATA, PRIVATE, Firewall, nameservers, rules


def test_private_networks_and_metadata_are_closed() -> None:
    text = rules(Firewall("faas0"), [], "DROP")
    for network in METADATA + PRIVATE:
        assert f"-A FAAS0-FORWARD -d {network} -j DROP" in text
    assert "-A FAAS0-INPUT -j DROP" in text
    assert text.startswith("*filter\n:FAAS0-INPUT - [0:0]\n:FAAS0-FORWARD - [0:0]\n")
    assert text.endswith("COMMIT\n")


def test_the_switch_opens_private_networks_but_no_metadata_and_not_this_machine() -> None:
    text = rules(Firewall("faas0", allow_private=True), [], "DROP")
    assert not [network for network in PRIVATE if network in text]
    assert all(network in text for network in METADATA)
    assert "-A FAAS0-INPUT -j DROP" in text


def test_only_the_name_servers_port_is_open_and_before_all_refusals() -> None:
    lines = rules(Firewall("faas0"), ["10.0.0.2"], "DROP").splitlines()
    for chain, verdict in (("FAAS0-INPUT", "ACCEPT"), ("FAAS0-FORWARD", "RETURN")):
        mine = [line for line in lines if line.startswith(f"-A {chain}")]
        assert mine[:2] == [
            f"-A {chain} -d 10.0.0.2/32 -p {protocol} --dport 53 -j {verdict}" for protocol in ("udp", "tcp")
        ]
        assert all(line.endswith("DROP") for line in mine[2:])


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("nameserver 10.0.0.2\nnameserver 1.1.1.1\n", "nameserver 9.9.9.9\n", ["10.0.0.2", "1.1.1.1"]),
        ("nameserver 127.0.0.53\noptions edns0\n", "nameserver 192.168.1.1\n", ["192.168.1.1"]),
        ("nameserver ::1\nnameserver fe80::1%eth0\nnameserver\n# nameserver 8.8.8.8\n", "", []),
        ("", None, []),
    ],
)
def test_nameservers_are_those_the_engine_hands_on(
    tmp_path: Path, first: str, second: str | None, found: list[str]
) -> None:
    files = (tmp_path / "a", tmp_path / "b")
    files[0].write_text(first)
    if second is not None:
        files[1].write_text(second)
    assert nameservers(files) == found
