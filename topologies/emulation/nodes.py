"""Mininet's nodes, adapted to this data centre.

Each is a Mininet node (a shell in a network namespace), so that Mininet's CLI works as its users
know it: `nodes`, `net`, `vm1 ping vm2`, `nve1 ip link`.  What Mininet would do by typing into those
shells one after the other (create interfaces, move them, configure them) is done for all nodes at
once elsewhere, and Mininet is told what exists.  Mininet's camelCase names stay in this file.

Mininet also raises some of the machine's sysctls for large networks, and leaves them so.  That is
prevented: host_settings.py raises what a run needs, puts it back, and says so in the result.
"""

import os
import signal
from contextlib import suppress
from typing import Any

from mininet.link import Intf, Link
from mininet.net import VERSION, Mininet
from mininet.node import Host, Switch

from nve.edge import Edge

MININET_VERSION = str(VERSION)


class VmNode(Host):
    """A tenant system."""


class NveNode(Switch):
    """An NVE."""

    def __init__(self, name: str) -> None:
        super().__init__(name, dpid="0", inNamespace=True)
        self._edge: Edge

    def use(self, edge: Edge) -> None:
        """Make commands in the shell talk to the NVE's own edge."""
        self._edge = edge
        if variables := " ".join(f"{key}={value}" for key, value in edge.environment.items()):
            self.cmd(f"export {variables}")
        for name, command in edge.aliases.items():
            self.cmd(f'{name}() {{ command {command} "$@"; }}')

    def start(self, _controllers: object) -> None:
        """Revive the edge: Mininet's CLI command `switch ... start`."""
        if self._edge.alive:
            raise RuntimeError(f"{self.name} runs already")
        self._edge.revive()
        self._edge.settle()

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: N803 (Mininet's name)
        """Kill the edge, but keep its cables: Mininet's CLI command `switch ... stop`."""
        if not self._edge.alive:
            raise RuntimeError(f"{self.name} is stopped already; `switch {self.name} start`")
        self._edge.die()

    def dpctl(self, *args: str) -> str:
        """Run a command of the edge: Mininet's CLI command `dpctl`."""
        return str(self.cmd(*self._edge.dpctl(args)))

    def connected(self) -> bool:
        """Return whether the edge forwards: Mininet's CLI command `wait`."""
        return self._edge.alive


class UnderlayNode(Switch):
    """A switch or router of the underlay, the control network's switch, or the delay line's
    node.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, dpid="0", inNamespace=True)

    def dpctl(self, *_: str) -> str:
        return "(no NVE)\n"

    def connected(self) -> bool:
        return True


class ControlNode(Host):
    """The node of an overlay's control plane; Mininet lists it as a controller."""


class ExistingIntf(Intf):
    """An interface that exists and is configured already."""

    def delete(self) -> None:
        """Forget the interface, which goes with its namespace."""
        self.node.delIntf(self)


class ExistingLink(Link):
    """A cable that exists already, and that Mininet is told about."""

    def __init__(self, node1: Any, name1: str, node2: Any, name2: str) -> None:
        # `up=None` keeps Mininet from asking ifconfig; `fast` keeps it from moving interfaces.
        super().__init__(
            node1,
            node2,
            intfName1=name1,
            intfName2=name2,
            intf=ExistingIntf,
            fast=True,
            up=None,
        )

    @classmethod
    def makeIntfPair(cls, *_: Any, **__: Any) -> None:  # noqa: N802 (Mininet's name)
        """Do nothing: the interfaces exist."""


class PlugLink(ExistingLink):
    """The cable between a VM and an NVE; it comes and goes during a run."""


def tell_interface(node: Any, name: str, ipv4: str, mac: str) -> None:
    """Tell Mininet about an interface that is not the end of a link."""
    interface = ExistingIntf(name, node=node, moveIntfFn=lambda *_: None, up=None)
    interface.ip, interface.mac = ipv4, mac


def empty_network() -> Any:
    """Return a Mininet without nodes, links or a controller of its own."""
    Mininet.inited = True  # keeps Mininet from changing the host's settings
    return Mininet(
        build=False, controller=None, switch=UnderlayNode, host=VmNode, link=ExistingLink
    )


def end_shell(node: Any) -> None:
    """End a node's shell and what it started; its namespace goes with the last of them."""
    if node.shell is not None:
        with suppress(ProcessLookupError):
            os.killpg(node.shell.pid, signal.SIGKILL)
        node.cleanup()
