"""The network called `egress`: a bridge of our own from which containers reach the outside and nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faas.drivers.container import LABEL
from faas.drivers.engine import Client, Engine
from faas.drivers.firewall import Firewall
from faas.errors import Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

NETWORK = "faas-egress"
BRIDGE = "faas0"
_NAME_OPTION = "com.docker.network.bridge.name"
_ICC_OPTION = "com.docker.network.bridge.enable_icc"


class Egress:
    """Creates the network once an engine and keeps its firewall in place.

    Args:
        network: the engine's name for it.
        bridge: name of its network device.
        allow_private: containers may reach private networks.
    """

    def __init__(
        self, engine: Engine, *, network: str = NETWORK, bridge: str = BRIDGE, allow_private: bool = False
    ) -> None:
        self._engine = engine
        self.network = network
        self.firewall = Firewall(bridge, allow_private=allow_private)

    async def ensure(self) -> None:
        """Network and rules are there when this returns; without the right to set rules, a warning is logged.

        Raises:
            Unavailable: the engine cannot make the network, or one of that name is not like ours.
        """
        seen = await self._inspect()
        if seen is None:
            try:
                await self._engine.call(self._create)
            except (Conflict, Unavailable) as error:
                if await self._inspect() is None:  # nobody else was faster
                    raise Unavailable(
                        f"cannot create the network {self.network}: {error.message}",
                        hint="Load the kernel module br_netfilter, or remove the network in its way.",
                    ) from error
            seen = await self._inspect()
        if trouble := self._differs(seen or {}):
            raise Unavailable(trouble, hint=f"docker network rm {self.network}; it is made again at the next start.")
        if reason := self.firewall.usable():
            log.warning(
                "egress: %s: functions can reach this machine and its private networks; see faas doctor", reason
            )
            return
        await asyncio.to_thread(self.firewall.apply)

    async def check(self) -> list[tuple[str, bool, str]]:
        """Findings for `faas doctor`."""
        what = "network egress"
        seen = await self._inspect()
        if seen is None:
            return [(what, False, f"{self.network} does not exist; it is made when a node starts")]
        if trouble := self._differs(seen):
            return [(what, False, f"{trouble}; fix: docker network rm {self.network}, then start the node")]
        if reason := self.firewall.usable():
            fix = "run the node as root with iptables installed, or filter this bridge yourself"
            found = f"{reason}, so functions can reach this machine through {self.firewall.bridge}"
            return [(what, False, f"{found}; fix: {fix}")]
        if not await asyncio.to_thread(self.firewall.in_place):
            await asyncio.to_thread(self.firewall.apply)
            return [(what, True, f"rules of {self.firewall.bridge} were missing (a firewall reload?) and are back")]
        reach = "outside and private networks" if self.firewall.allow_private else "outside only"
        return [(what, True, f"{self.network} on {self.firewall.bridge}: {reach}")]

    async def _inspect(self) -> dict[str, Any] | None:
        try:
            return dict(await self._engine.call(lambda client: client.inspect_network(self.network)))
        except NotFound:
            return None

    def _create(self, client: Client) -> None:
        client.create_network(
            self.network,
            driver="bridge",
            options={_NAME_OPTION: self.firewall.bridge, _ICC_OPTION: "false"},
            labels={LABEL: "1"},
            enable_ipv6=False,
            check_duplicate=True,
        )

    def _differs(self, seen: dict[str, Any]) -> str:
        """Why the network that is there must not be used; empty when it may."""
        options = seen.get("Options") or {}
        if options.get(_ICC_OPTION) != "false" or options.get(_NAME_OPTION) != self.firewall.bridge:
            return f"the network {self.network} exists with other settings: instances could reach each other"
        if seen.get("EnableIPv6"):
            return f"the network {self.network} has IPv6, which the rules do not cover"
        return ""
