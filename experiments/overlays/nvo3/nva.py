"""The NVA as the experiments see it: a process to start, and its northbound interface.

The experiments never import the NVA's application; everything goes through HTTP on a unix socket.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from experiments.machine import ROOT
from experiments.overlays import OverlayError
from experiments.overlays.nvo3 import http
from experiments.overlays.nvo3.http import HttpClient, NoAnswer
from experiments.overlays.nvo3.settings import Settings
from nve.linux.wait import readable, wait_until
from nve.model import RoutedNetwork, VmSpec
from nve.ovs.bridge import OvsInstance
from nve.resources import UNLIMITED, Resources
from topologies import locators
from topologies.emulation.data_centre import DataCentre

OPENFLOW_PORT = 6653
LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp."""
READY_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 130.0
CONFIRMATION_TIMEOUT_S = 60.0
PYTHONS = {"os-ken": Path(sys.executable), "ryu": ROOT / ".venv-ryu/bin/python"}
"""The interpreter that has each framework."""


class NvaError(OverlayError):
    """The NVA refused a request or did not answer; the message is its own."""


class NvaAway(NvaError):
    """The NVA does not answer at all: it has died, or is just starting.  A repeated request may
    succeed.
    """


class NvaProcess:
    """The NVA of one run.  `start` returns when every NVE is connected and has its first rules."""

    def __init__(
        self,
        data_centre: DataCentre,
        overlay: Settings,
    ) -> None:
        self._data_centre = data_centre
        self._place = data_centre.control_node
        self._framework = overlay.framework
        self._directory = data_centre.session.directory
        self._overlay = overlay
        self._process: subprocess.Popen[str] | None = None
        self._settings_file = self._directory / "nva.json"
        self.trace_file = self._directory / "nva-trace.jsonl"
        self._token = secrets.token_hex(16)
        self.socket = self._directory / "nva.sock"
        self._client = HttpClient(self.socket, {"Authorization": f"Bearer {self._token}"})

    def start(self) -> None:
        """Start the NVA.  Raises NvaError if it does not come up or an NVE does not connect."""
        self._settings_file.write_text(json.dumps(self._settings()), encoding="utf-8")
        self._settings_file.chmod(0o600)
        (self._directory / "token").write_text(self._token, encoding="utf-8")
        (self._directory / "token").chmod(0o600)
        self._launch()
        for nve in self._data_centre.nves.values():
            # One after the other, so that the trace of every run begins in the same way.
            instance = OvsInstance.of(nve.edge)
            instance.set_controller(f"tcp:{self._place.address}:{OPENFLOW_PORT}")
            wait_until(partial(self._unconnected, nve.name), READY_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The id of its process.  Raises NvaError if it does not run."""
        if self._process is None:
            raise NvaError("the NVA does not run")
        return self._process.pid

    def kill(self) -> None:
        """Kill the NVA, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def restart(self) -> None:
        """Start the NVA again, with the state on its disk.  NVEs connect again by themselves."""
        self.socket.unlink(missing_ok=True)
        self._launch()

    def _launch(self) -> None:
        environment = {**os.environ, "VMMLAB_FRAMEWORK": self._framework, "PYTHONPATH": str(ROOT)}
        with (self._directory / "nva.log").open("a", encoding="utf-8") as log:
            self._process = self._data_centre.in_node(
                self._place.name,
                [str(PYTHONS[self._framework]), "-m", "controller", str(self._settings_file)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=ROOT,
            )
        assert self._process.stdout is not None
        said = self._process.stdout
        if not readable(said, READY_TIMEOUT_S) or said.readline().strip() != "ready":
            raise NvaError(f"the NVA did not start; it said: {self.log()}")
        # A switch that is refused once waits a second before it tries again.
        wait_until(self._not_listening, READY_TIMEOUT_S)

    def _settings(self) -> dict[str, Any]:
        nves = self._data_centre.nves.values()
        capacities = self._data_centre.fabric.capacities
        return {
            "address": self._place.address,
            "northbound": str(self.socket),
            "token": self._token,
            "trace": str(self.trace_file),
            "state": str(self._directory / "nva-state"),
            "nves": {
                nve.name: {
                    "dpid": nve.number,
                    "vtep": str(nve.vtep),
                    "tunnel_mtus": dict(nve.tunnel_mtus),
                    "underlay": self._underlay(nve.name),
                    "control": nve.control,
                    "capacity": asdict(capacities.get(nve.name, UNLIMITED)),
                }
                for nve in nves
            },
            "mapping_update": self._overlay.mapping_update,
            "lifetime_s": self._overlay.lifetime_s,
            "on_expiry": self._overlay.on_expiry,
            "end_markers": self._overlay.end_marker,
            "limits": asdict(self._overlay.limits),
        }

    def _underlay(self, nve: str) -> dict[str, Any] | None:
        """Return what the NVA has to know of an NVE's place on the underlay, if packets go by
        locators.
        """
        if not self._data_centre.sir_prefixes:
            return None
        fabric = self._data_centre.fabric
        return {
            "server": str(locators.servers(fabric)[nve]),
            "mac": fabric.macs[fabric.uplink(nve)],
            "next_hops": locators.next_hops(fabric, nve),
        }

    def _not_listening(self) -> str | None:
        """Return a sentence until the NVA listens.

        The kernel is asked, not the NVA: to the NVA, a connection would be a silent switch.
        """
        listing = Path(f"/proc/{self._place.pid}/net/tcp").read_text(encoding="utf-8")
        sockets = listing.splitlines()[1:]
        for local_address, _, state in (line.split()[1:4] for line in sockets):
            if state == LISTENING and local_address.endswith(f":{OPENFLOW_PORT:04X}"):
                return None
        return f"the NVA does not listen on port {OPENFLOW_PORT} yet"

    def _unconnected(self, nve: str) -> str | None:
        connected = self.get("health")["connected"][nve]
        return None if connected else f"{nve} is not connected to the NVA"

    def stop(self) -> None:
        self._client.close()
        self.kill()

    def log(self) -> str:
        """Return what the process has written to its standard error."""
        return (self._directory / "nva.log").read_text(encoding="utf-8").strip()

    # -- northbound ------------------------------------------------------------------------------

    def get(self, path: str, **parameters: object) -> Any:
        """Send a GET request and return the answer.  Raises NvaError."""
        return self._ask("GET", path, parameters)

    def post(
        self,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        answered_within_s: float = ANSWER_TIMEOUT_S,
        **parameters: object,
    ) -> Any:
        """Send a POST request and return the answer.  Raises NvaError."""
        return self._ask("POST", path, parameters, body or {}, answered_within_s)

    def begin_post(
        self, path: str, *, answered_within_s: float, **parameters: object
    ) -> "NvaRequest":
        """Send a POST request, whose answer is asked for later.  Raises NvaAway."""
        try:
            asked = self._client.begin("POST", f"/v1/{path}", parameters, {}, answered_within_s)
        except NoAnswer as error:
            raise self.away(error) from None
        return NvaRequest(self, asked, f"POST {path}")

    def put(self, path: str, body: Mapping[str, object], **parameters: object) -> Any:
        """Send a PUT request and return the answer.  Raises NvaError."""
        return self._ask("PUT", path, parameters, body)

    def delete(self, path: str) -> Any:
        """Send a DELETE request and return the answer.  Raises NvaError."""
        return self._ask("DELETE", path, {})

    def associate(self, vm: VmSpec, nve: str, port: int) -> None:
        """Tell the NVA that a VM starts behind an NVE; return when that has its port's rules."""
        asked = {"vm": vm.name, **self._interface(vm), "nve": nve, "port": port}
        self.post("associations", asked, timeout_s=CONFIRMATION_TIMEOUT_S)

    def _interface(self, vm: VmSpec) -> dict[str, object]:
        return {
            "vni": vm.vni,
            "mac": vm.mac,
            "addresses": sorted(map(str, vm.addresses)),
            "mtu": self._data_centre.mtu(vm),
            "vlan_tags": vm.vlan_tags,
            "claimable": sorted(map(str, vm.claimable)),
            "routed": _named(vm.routed) if vm.routed else None,
        }

    def offer(self, vm: VmSpec, nve: str | None) -> dict[str, Any]:
        """Ask for an offer for a VM, at any NVE if none is named.  Raises NvaError."""
        resources = asdict(vm.resources)
        asked = {"interface": self._interface(vm), "resources": resources, "nve": nve}
        offered: dict[str, Any] = self.put(f"vms/{vm.name}", asked)
        return offered

    def adjust(self, vm: str, resources: Resources) -> None:
        """Change the resources of a VM that stays where it is.  Raises NvaError."""
        self.post(f"vms/{vm}/adjust", {"resources": asdict(resources)})

    def keep_room(self, vm: str, nve: str, resources: Resources) -> None:
        """Keep room for the standby of a VM.  Raises NvaError."""
        self.put(f"vms/{vm}/standby", {"nve": nve, "resources": asdict(resources)})

    def give_room_up(self, vm: str) -> None:
        """Keep no room for the standby of a VM any more.  Raises NvaError."""
        self.delete(f"vms/{vm}/standby")

    def confirm(self, vm: str, offer: int, port: int) -> None:
        """Put an offer to use; return when the NVE has the port's rules.  Raises NvaError."""
        confirmed = {"offer": offer, "port": port}
        self.post(f"vms/{vm}/confirm", confirmed, timeout_s=CONFIRMATION_TIMEOUT_S)

    def route(self, vm: str, address: str) -> str | None:
        """Make the host route to an address lead to another VM of its layer 3 network.

        Returns, when the NVEs have it, the VM that it led to before.  Raises NvaError.
        """
        asked = {"vm": vm}
        found = self.put(f"host-routes/{address}", asked, timeout_s=CONFIRMATION_TIMEOUT_S)
        before: str | None = found["before"]
        return before

    def add_instance(self, vm: str, nve: str, port: int) -> None:
        """A second instance of a VM starts behind an NVE; returns when all NVEs have confirmed what
        follows.  Raises NvaError."""
        self.put(f"instances/{vm}/{nve}", {"port": port}, timeout_s=CONFIRMATION_TIMEOUT_S)

    def fence_instance(self, vm: str, nve: str, dead: bool) -> None:
        """One of two instances answers nobody any more; returns when that is so.  Raises
        NvaError."""
        self.post(
            f"instances/{vm}/{nve}/fence", {"server_dead": dead}, timeout_s=CONFIRMATION_TIMEOUT_S
        )

    def framework(self) -> str:
        """Return the name and version of the NVA's framework."""
        return str(self.get("health")["framework"])

    def _ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, object],
        body: Mapping[str, object] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Any:
        try:
            answer = self._client.ask(method, f"/v1/{path}", parameters, body, timeout_s)
        except NoAnswer as error:
            raise self.away(error) from None
        return content_of(answer, f"{method} {path}")

    def away(self, error: NoAnswer) -> NvaAway:
        return NvaAway(f"the NVA does not answer ({error}); it said: {self.log()}")


class NvaRequest:
    """A request to the NVA that was sent; readable when there is an answer, or never will be."""

    def __init__(self, nva: NvaProcess, asked: http.SentRequest, what: str) -> None:
        self._nva = nva
        self._asked = asked
        self._what = what

    def fileno(self) -> int:
        return self._asked.fileno()

    def answer(self) -> Any:
        """Wait for the answer and return it.  Raises NvaError.  Call this once."""
        try:
            return content_of(self._asked.answer(), self._what)
        except NoAnswer as error:
            raise self._nva.away(error) from None


def content_of(answer: http.Answer, what: str) -> Any:
    """Return what the NVA has answered to a request.  Raises NvaError with its refusal."""
    if answer.status >= HTTPStatus.BAD_REQUEST:
        said = answer.content or {"error": f"{what}: {answer.status}"}
        raise NvaError(said["error"])
    return answer.content


def _named(network: RoutedNetwork) -> dict[str, str | None]:
    """Return the network's parameters in the form of JSON."""
    prefix = network.sir_prefix
    return asdict(network) | {"sir_prefix": str(prefix) if prefix else None}
