"""Mininet's nodes, as this data centre needs them; camelCase stops here.

Each is a Mininet node (a shell in a network namespace), so that Mininet's CLI works as its users
know it: `nodes`, `net`, `vm1 ping vm2`, `nve1 ip link`.  What Mininet would do by typing
into those shells one after the other (create interfaces, move them, configure them) is done for all
nodes at once elsewhere, and Mininet is told what exists.

Mininet also wants to raise some of the machine's sysctls for large networks, and leaves them so.
It is not let: what a run needs is raised by host_settings.py, put back, and told in the result.
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
        """Makes commands in the shell talk to the NVE's own edge."""
        self._edge = edge
        if variables := " ".join(f"{key}={value}" for key, value in edge.environment.items()):
            self.cmd(f"export {variables}")
        for name, command in edge.aliases.items():
            self.cmd(f'{name}() {{ command {command} "$@"; }}')

    def start(self, _controllers: object) -> None:
        """Mininet's CLI command `switch ... start`."""
        if self._edge.alive:
            raise RuntimeError(f"{self.name} runs already")
        self._edge.revive()
        self._edge.settle()

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: N803 (Mininet's name)
        """Mininet's CLI command `switch ... stop`: the edge dies; its cables stay."""
        if not self._edge.alive:
            raise RuntimeError(f"{self.name} is stopped already; `switch {self.name} start`")
        self._edge.die()

    def dpctl(self, *args: str) -> str:
        """Mininet's CLI command `dpctl`."""
        return str(self.cmd(*self._edge.dpctl(args)))

    def connected(self) -> bool:
        """Mininet's CLI command `wait`."""
        return self._edge.alive


class UnderlayNode(Switch):
    """A switch or router of the underlay, the control network, or the delay line's place."""

    def __init__(self, name: str) -> None:
        super().__init__(name, dpid="0", inNamespace=True)

    def dpctl(self, *_: str) -> str:
        return "(no NVE)\n"

    def connected(self) -> bool:
        return True


class ControlNode(Host):
    """Where an overlay's control plane runs; Mininet lists it as a controller."""


class ExistingIntf(Intf):
    """An interface that is there and configured already."""

    def delete(self) -> None:
        """It goes with its namespace."""
        self.node.delIntf(self)


class ExistingLink(Link):
    """A cable that is there already, which Mininet is told about."""

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
        """Nothing to make."""


class PlugLink(ExistingLink):
    """The cable between a VM and an NVE; it comes and goes during a run."""


def tell_interface(node: Any, name: str, ipv4: str, mac: str) -> None:
    """Tells Mininet about an interface that is not the end of a link."""
    interface = ExistingIntf(name, node=node, moveIntfFn=lambda *_: None, up=None)
    interface.ip, interface.mac = ipv4, mac


def empty_network() -> Any:
    """A Mininet without nodes, links or a controller of its own."""
    Mininet.inited = True  # nothing of the host's to change
    return Mininet(
        build=False, controller=None, switch=UnderlayNode, host=VmNode, link=ExistingLink
    )


def end_shell(node: Any) -> None:
    """Ends a node's shell and what it started; its namespace goes with the last of them."""
    if node.shell is not None:
        with suppress(ProcessLookupError):
            os.killpg(node.shell.pid, signal.SIGKILL)
        node.cleanup()
