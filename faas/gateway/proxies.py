"""Who really calls, when reverse proxies stand in between: their word counts only if the operator trusts them.

    caller 203.0.113.7 --> proxy 10.0.0.5 --> proxy 10.0.0.2 --> here
                           X-Forwarded-For: (what the caller wrote), 203.0.113.7, 10.0.0.5

Read from the right: the peer is 10.0.0.2, trusted, so the last entry is true; 10.0.0.5 is trusted too, so the one
before it is true; 203.0.113.7 is not, so it is the caller, and what stands left of it is the caller's invention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

from faas.kinds import Network

_PORT = re.compile(r"\[(.+)\](?::\d+)?|([^:]+):\d+")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")
_SCHEMES = ("http", "https")


class Proxies:
    """The proxies this node trusts; false when there are none.

    Args:
        networks: their addresses.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._trusts = lru_cache(maxsize=4096)(self._look_up)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: str) -> bool:
        """True for an address of a trusted proxy; false for what is no address."""
        return self._trusts(address)

    def seen(self, request: web.BaseRequest) -> web.BaseRequest:
        """The request with its caller's `remote`, `scheme` and `host`; itself if no trusted proxy sent it."""
        client = request.remote or ""
        if not self.trusts(client):
            return request
        hops = 0
        for entry in reversed(_listed(request, "X-Forwarded-For")):
            address = _address(entry)
            if address is None:
                break
            client, hops = str(address), hops + 1
            if not self.trusts(client):
                break
        if not hops:
            return request
        scheme = _at(_listed(request, "X-Forwarded-Proto"), hops).lower()
        host = _at(_listed(request, "X-Forwarded-Host"), hops)
        try:
            return request.clone(
                remote=client,
                scheme=scheme if scheme in _SCHEMES else request.scheme,
                host=host if _HOST.fullmatch(host) else request.host,
            )
        except ValueError:  # the request line names scheme and host itself, and they stay
            return request.clone(remote=client)

    def _look_up(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def is_local(address: str) -> bool:
    """True for this machine's own addresses, a unix socket's empty one included."""
    return not address or address.startswith("127.") or address == "::1"


@lru_cache(maxsize=4096)
def neighbourhood(address: str) -> str:
    """What counts as one client: an IPv4 address; of IPv6 the /64, of which one client has all."""
    if ":" not in address:
        return address
    try:
        return str(ip_network(f"{address.partition('%')[0]}/64", strict=False))
    except ValueError:
        return address


def _listed(request: web.BaseRequest, name: str) -> list[str]:
    """Entries of a header that every proxy appends to, over all its lines."""
    return [entry.strip() for line in request.headers.getall(name, ()) for entry in line.split(",")]


def _at(entries: Sequence[str], hops: int) -> str:
    """The entry as many places from the right as the client's address; the first, if proxies replace instead."""
    return (entries[-hops] if hops <= len(entries) else entries[0]) if entries else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address with or without a port, IPv4 in IPv6 unpacked."""
    if match := _PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
