"""The bodies of requests to the northbound interface, and of its answers."""

import json
import math
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyAddress
from werkzeug import Request, Response
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from controller.core.onboarding import Interface
from nve.model import IPAddress, RoutedNetwork, TenantSystem, mac, vni

MAX_REQUEST_BYTES = 65536
MAX_WAIT_S: Final = 120.0


def _of_a_host(address: IPAddress) -> IPAddress:
    if address.is_multicast or address.is_unspecified or "%" in str(address):
        raise ValueError(f"{address} is not the address of a host")
    return address


HostAddress = Annotated[IPvAnyAddress, AfterValidator(_of_a_host)]


VmName = Annotated[str, Field(min_length=1, max_length=32)]


class Body(BaseModel):
    """The body of a request; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=False)


class InterfaceBody(Body):
    """The part of a body that describes a VM's NIC."""

    vni: int
    mac: str
    addresses: list[HostAddress] = Field(max_length=64)
    mtu: int = Field(0, ge=0, le=65535)
    vlan_tags: bool = False
    claimable: list[HostAddress] = Field(default_factory=list, max_length=64)
    routed: RoutedNetwork | None = None

    def interface(self) -> Interface:
        """Return the interface described.  Raises ValueError."""
        return Interface(
            TenantSystem(vni(self.vni), mac(self.mac)),
            frozenset(self.addresses),
            self.mtu,
            self.vlan_tags,
            frozenset(self.claimable),
            self.routed,
        )


class AssociationBody(InterfaceBody):
    """The body of POST /v1/associations."""

    vm: VmName
    nve: str
    port: int


class HostRouteBody(Body):
    """The body of PUT /v1/host-routes/ADDRESS."""

    vm: VmName


class InstanceBody(Body):
    """The body of PUT /v1/instances/VM/NVE."""

    port: int


class FenceBody(Body):
    """The body of POST /v1/instances/VM/NVE/fence."""

    server_dead: bool = False
    """Whoever asks has made sure that nothing runs there: an NVE out of reach is not waited for."""


def timeout_s_of(request: Request) -> float:
    """Return how long a caller wants to wait, in seconds.  Raises BadRequest."""
    timeout_s = request.args.get("timeout_s", "10")
    try:
        wait_s = float(timeout_s)
    except ValueError:
        wait_s = math.nan
    if not wait_s >= 0:
        raise BadRequest(f"timeout_s is {timeout_s!r}, not a number of seconds")
    return min(wait_s, MAX_WAIT_S)


def body_of(request: Request) -> Any:
    """Return the JSON body of a request.  Raises BadRequest, RequestEntityTooLarge."""
    octets = request.get_data()
    if request.content_length is None and len(octets) >= MAX_REQUEST_BYTES:
        raise RequestEntityTooLarge  # the body came in chunks and was cut off at the limit
    try:
        return json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None


def as_answer(content: object, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(json.dumps(content) + "\n", status, mimetype="application/json")
