"""Packet filter rules for one bridge: what containers on it may reach. Builds them (pure) and puts them in place.

```
 container -> bridge -> INPUT   -> FAAS0-INPUT    the machine itself: nothing but a name server that lives on it
                     -> FORWARD -> FAAS0-FORWARD  elsewhere: no metadata service, no private network
```
Both chains are rewritten in one atomic step, so there is never a moment without them. The jumps into them are
inserted when missing. Only `iptables` is called: it is the nf_tables or the legacy one, as the machine has it.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path

from faas.errors import Unavailable

# Where clouds answer questions about the machine, its keys included. Never open, whatever the operator allows.
METADATA = ("169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "0.0.0.0/8", "127.0.0.0/8")
_REFUSALS = ("REJECT --reject-with icmp-admin-prohibited", "DROP")
"""Best first: a refused function gets its error at once; kernels without the first drop silently."""
_TIMEOUT_S = 15.0
_RESOLV = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class Firewall:
    """Rules of one bridge. Blocking: call it from a thread.

    Args:
        bridge: name of the network device, at most 15 characters.
        allow_private: containers may reach private networks (never metadata services or this machine).
    """

    def __init__(self, bridge: str, *, allow_private: bool = False) -> None:
        self.bridge = bridge
        self.allow_private = allow_private
        self.input_chain = f"{bridge.upper()}-INPUT"
        self.forward_chain = f"{bridge.upper()}-FORWARD"

    def usable(self) -> str:
        """Empty when rules can be set here, else why not."""
        if os.geteuid() != 0:
            return "the node is not root and cannot set iptables rules"
        if shutil.which("iptables") is None or shutil.which("iptables-restore") is None:
            return "iptables is not installed"
        return ""

    def apply(self) -> None:
        """Put the rules in place; repeating it changes nothing. Raises Unavailable with what iptables said."""
        servers = nameservers()
        for refusal in _REFUSALS:
            text = rules(self, servers, refusal)
            done = _run(["iptables-restore", "--noflush", "--wait", "5"], text)
            if done.returncode == 0:
                break
        else:
            raise Unavailable(f"iptables refused the rules of bridge {self.bridge}: {done.stderr.strip()}")
        self._jump("INPUT", self.input_chain)
        self._jump(self._forward_hook(), self.forward_chain)

    def in_place(self) -> bool:
        """True when both chains are filled and reached."""
        hooks = (("INPUT", self.input_chain), (self._forward_hook(), self.forward_chain))
        return all(
            _iptables("-C", hook, "-i", self.bridge, "-j", chain).returncode == 0
            and "-j" in _iptables("-S", chain).stdout
            for hook, chain in hooks
        )

    def remove(self) -> None:
        """Take everything out again; what is not there is fine."""
        for hook, chain in (("INPUT", self.input_chain), (self._forward_hook(), self.forward_chain)):
            while _iptables("-D", hook, "-i", self.bridge, "-j", chain).returncode == 0:
                pass
            _iptables("-F", chain)
            _iptables("-X", chain)

    def _jump(self, hook: str, chain: str) -> None:
        jump = (hook, "-i", self.bridge, "-j", chain)
        if _iptables("-C", *jump).returncode == 0:
            return
        done = _iptables("-I", *jump)
        if done.returncode != 0:
            raise Unavailable(f"iptables refused to hook {chain} into {hook}: {done.stderr.strip()}")

    def _forward_hook(self) -> str:
        """The engine keeps DOCKER-USER before its own rules; where it keeps none, FORWARD has to do."""
        return "DOCKER-USER" if _iptables("-S", "DOCKER-USER").returncode == 0 else "FORWARD"


def rules(firewall: Firewall, servers: list[str], refusal: str) -> str:
    """Input of iptables-restore that rewrites both chains.

    The engine's resolver asks the machine's name servers from inside the container, and those are often
    private addresses: port 53 of exactly these stays open.
    """
    lines = ["*filter", f":{firewall.input_chain} - [0:0]", f":{firewall.forward_chain} - [0:0]"]
    for server in servers:
        for protocol in ("udp", "tcp"):
            question = f"-d {server}/32 -p {protocol} --dport 53"
            lines.append(f"-A {firewall.input_chain} {question} -j ACCEPT")
            lines.append(f"-A {firewall.forward_chain} {question} -j RETURN")
    lines.append(f"-A {firewall.input_chain} -j {refusal}")
    closed = METADATA if firewall.allow_private else METADATA + PRIVATE
    lines.extend(f"-A {firewall.forward_chain} -d {network} -j {refusal}" for network in closed)
    return "\n".join([*lines, "COMMIT", ""])


def nameservers(files: tuple[Path, ...] = _RESOLV) -> list[str]:
    """IPv4 name servers the engine gives to containers: those of the first file that are not loopback."""
    for file in files:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        found = [words[1] for line in lines if (words := line.split()[:2])[:1] == ["nameserver"] and len(words) == 2]
        usable = [server for server in found if _is_outside(server)]
        if usable:
            return usable
    return []


def _is_outside(address: str) -> bool:
    try:
        return not ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        return False


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str]:
    return _run(["iptables", "-w", "5", *arguments], None)


def _run(command: list[str], text: str | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise Unavailable(f"{command[0]} did not work: {cause}") from cause
