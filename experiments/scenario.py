"""A scenario: the whole of an experiment in one YAML file, validated before anything is started.

Every mistake is a sentence that names the file, the field and what would be right.  The resolved
scenario, defaults filled in, is written beside the results: running it again repeats the run.

Tenants number their VMs from 1, each tenant anew: the first VM of every virtual network has the
MAC address 02:00:00:00:00:01 and the same IP addresses.  So every scenario with two tenants shows
that they do not mix (R4.1.8).
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from controller.dissemination import strategy
from experiments.attacks import Forgery
from experiments.attacks import contradictions as contradicting_attacks
from experiments.content import ScenarioError, Series, changed, is_series
from experiments.failures import Failure
from experiments.failures import contradictions as contradicting_failures
from experiments.parts import Name, Part
from nve.announce import NOTHING, Announcement
from nve.limits import Limits
from nve.model import Bounds, VmSpec, mac, vni
from topologies import catalogue
from topologies.configuration import RESERVED
from topologies.mtu import LARGEST_VM_MTU, LEAST_VM_MTU
from topologies.spec import USUAL_MTU, Fabric, LinkSpec, UnderlayParameters

FOLDER = Path(__file__).parent / "scenarios"
TENANT_IPV4 = IPv4Address("192.168.0.0")
TENANT_IPV6 = IPv6Address("fd77::")
Family = Literal["ipv4", "ipv6"]
GAP_S = 0.5
"""From the end of a move's pause until the VM's next move may begin: by then it has arrived.  Old
entries and the in-flight tunnel of the first may still be there; the NVA takes both moves' apart.
"""
VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class Tenant(Part):
    """A virtual network and where its VMs start."""

    vni: int = Field(ge=1, le=2**24 - 1)
    vms: dict[Name, Name] = Field(min_length=1, max_length=1000)
    mtu: int | None = Field(None, ge=LEAST_VM_MTU, le=LARGEST_VM_MTU)
    """Of the VMs' NICs; what the underlay carries everywhere, unless said otherwise."""


class Overlay(Part):
    """How the overlay behaves; the draft's open questions are switches here."""

    kind: Literal["nvo3"] = "nvo3"
    mapping_update: str = "push"
    lifetime_s: int | None = Field(None, ge=1, le=3600)
    in_flight: Literal["tunnel", "drop"] = "tunnel"
    hold: bool = False
    stop: Literal["idle", "timer"] = "idle"
    idle_s: int = Field(2, ge=1, le=3600)
    timer_s: int = Field(5, ge=1, le=3600)
    hold_packets: int = Field(30_000, ge=1, le=1_000_000)
    hold_bytes: int = Field(32 << 20, ge=2000, le=1 << 30)
    hold_s: float = Field(60, gt=0, le=1200)
    end_marker: bool = False
    end_marker_s: float = Field(1, gt=0, le=60)
    on_expiry: Literal["forget", "keep"] = "forget"
    report_rate_pps: int = Field(Limits.report_rate_pps, ge=1, le=100_000)
    report_burst: int = Field(Limits.report_burst, ge=1, le=100_000)
    miss_rate_pps: int = Field(Limits.miss_rate_pps, ge=1, le=100_000)
    miss_burst: int = Field(Limits.miss_burst, ge=1, le=100_000)

    @property
    def bounds(self) -> Bounds:
        """What may wait for a VM that is not there yet, and for how long."""
        return Bounds(self.hold_packets, self.hold_bytes, self.hold_s)

    @property
    def limits(self) -> Limits:
        """How much a VM may have its NVE tell the NVA."""
        return Limits(self.report_rate_pps, self.report_burst, self.miss_rate_pps, self.miss_burst)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        keeps_expired = self.on_expiry == "keep"
        strategy(self.mapping_update, self.lifetime_s, keeps_expired=keeps_expired)
        if self.hold and self.in_flight == "drop":
            raise ValueError(
                "hold: true holds what the source NVE tunnels on; use in_flight: tunnel"
            )
        if self.end_marker and not self.hold:
            raise ValueError("end_marker: true says until when to hold; it needs hold: true")
        return self


class UdpProbe(Part):
    """Numbered, time-stamped packets at a steady rate."""

    kind: Literal["udp-probe"]
    source: Name = Field(alias="from")
    destination: Name = Field(alias="to")
    family: Family = "ipv4"
    rate_pps: float = Field(1000, gt=0, le=20000)
    size_bytes: int = Field(100, ge=28, le=1400)


class TcpBulk(Part):
    """One iperf3 TCP connection, as fast as it goes or limited to `rate_mbit`."""

    kind: Literal["tcp-bulk"]
    source: Name = Field(alias="from")
    destination: Name = Field(alias="to")
    family: Family = "ipv4"
    rate_mbit: float | None = Field(None, gt=0, le=100_000)


class DisklessClient(Part):
    """A client in a VM that has no disk: at each move the VM loses its IPv4 address, and the client
    asks for it with reverse ARP (R4.1.5)."""

    kind: Literal["diskless-client"]
    vm: Name


Flow = UdpProbe | TcpBulk
"""Traffic from one VM to another."""
Traffic = Annotated[Flow | DisklessClient | Forgery, Field(discriminator="kind")]
_KINDS = ("udp-probe", "tcp-bulk", "diskless-client", "forgery")


class Move(Part):
    """One move, `at_s` seconds after the traffic began."""

    at_s: float = Field(ge=0)
    vm: Name
    to: Name
    mode: Literal["hot"] = "hot"
    pause_ms: float = Field(50, ge=0, le=600_000)
    announce: Literal["garp", "garp-reply", "na", "na-solicited", "both", "rarp", "none"] = "both"
    announce_times: int = Field(default=1, ge=1, le=10)
    announcement_lost: bool = False
    expect: Literal["completed", "refused"] = "completed"

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.announce == NOTHING and (self.announce_times > 1 or self.announcement_lost):
            raise ValueError(
                "announce: none leaves nothing to repeat (announce_times) or to lose "
                "(announcement_lost); name a form, such as announce: garp"
            )
        return self

    @property
    def announcement(self) -> Announcement:
        return Announcement(self.announce, self.announce_times, self.announcement_lost)


class Topology(Part):
    """A kind out of `topologies/` and that topology's own parameters."""

    kind: str
    parameters: SerializeAsAny[UnderlayParameters]

    @model_validator(mode="before")
    @classmethod
    def _look_up(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "kind" not in given:
            raise ValueError(f"say which: kind: {' | '.join(catalogue.names())}")
        settings = dict(given)
        found = catalogue.get(str(settings.pop("kind")))
        return {"kind": found.kind, "parameters": found.parameters.model_validate(settings)}

    def fabric(self) -> Fabric:
        return catalogue.get(self.kind).build(self.parameters)


class Scenario(Part):
    """All of it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    says: str = ""
    topology: Topology
    control: LinkSpec = LinkSpec()
    tenants: list[Tenant] = Field(min_length=1)
    overlay: Overlay = Field(default_factory=lambda: Overlay.model_validate({}))
    traffic: list[Traffic] = Field(default_factory=list)
    moves: list[Move] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)
    duration_s: float = Field(gt=0, le=86_400)
    seed: int = Field(1, ge=0, le=2**31 - 1)
    datapath: Literal["auto", "system", "netdev"] = "auto"
    link_emulator: Literal["auto", "netem", "delay-line"] = "auto"
    variants: dict[VariantName, dict[str, Any]] = Field(default_factory=dict)

    def vms(self) -> list[VmSpec]:
        """Every VM with its addresses, in the order of the file."""
        return [
            VmSpec(
                name,
                vni(tenant.vni),
                mac(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"),
                TENANT_IPV4 + number,
                TENANT_IPV6 + number,
                nve,
                tenant.mtu,
            )
            for tenant in self.tenants
            for number, (name, nve) in enumerate(tenant.vms.items(), start=1)
        ]

    @property
    def flows(self) -> list[Flow]:
        """The traffic that goes from one VM to another."""
        return [flow for flow in self.traffic if isinstance(flow, UdpProbe | TcpBulk)]

    @property
    def forgeries(self) -> list[Forgery]:
        """The attacks."""
        return [attack for attack in self.traffic if isinstance(attack, Forgery)]

    @property
    def diskless(self) -> list[str]:
        """The VMs that lose their IPv4 address when they move."""
        return [client.vm for client in self.traffic if isinstance(client, DisklessClient)]

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for place, complaint in _contradictions(self):
            raise PydanticCustomError(
                "contradiction", "{place}: {complaint}", {"place": place, "complaint": complaint}
            )
        return self


def _contradictions(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """What the parts say that does not fit together: (field, complaint)."""
    fabric = scenario.topology.fabric()
    nves = fabric.nves
    for nve in scenario.topology.parameters.links:
        if nve not in nves:
            yield f"topology.links.{nve}", _no_such("NVE", nve, nves)
    if scenario.control.mtu != USUAL_MTU:
        yield "control.mtu", f"the control network has {USUAL_MTU}; leave it out"
    taken = {*RESERVED, *(node.name for node in fabric.nodes)}
    where: dict[str, str] = {}
    network: dict[str, int] = {}
    for number, tenant in enumerate(scenario.tenants):
        if tenant.vni in network.values():
            yield f"tenants.{number}.vni", f"VNI {tenant.vni} is there twice"
        for vm, nve in tenant.vms.items():
            if vm in where:
                yield f"tenants.{number}.vms.{vm}", "this VM is there twice; names are unique"
            if vm in taken:
                yield f"tenants.{number}.vms.{vm}", "another node has this name; choose another"
            if nve not in nves:
                yield f"tenants.{number}.vms.{vm}", _no_such("NVE", nve, nves)
            where[vm], network[vm] = nve, tenant.vni
    for number, flow in enumerate(scenario.traffic):
        if isinstance(flow, Forgery):
            yield from contradicting_attacks(f"traffic.{number}", flow, network)
            continue
        if isinstance(flow, DisklessClient):
            if flow.vm not in where:
                yield f"traffic.{number}.vm", _no_such("VM", flow.vm, where)
            if scenario.traffic.index(flow) < number:
                yield f"traffic.{number}.vm", f"{flow.vm} has a diskless client already"
            continue
        for end, vm in (("from", flow.source), ("to", flow.destination)):
            if vm not in where:
                yield f"traffic.{number}.{end}", _no_such("VM", vm, where)
        if flow.source == flow.destination:
            yield f"traffic.{number}", f"{flow.source} would talk to itself"
        if network.get(flow.source) != network.get(flow.destination):
            yield f"traffic.{number}", "its two VMs are in different virtual networks"
    yield from _contradicting_moves(scenario, where, nves)
    yield from contradicting_failures(
        scenario.failures,
        nves,
        moves=len(scenario.moves),
        duration_s=scenario.duration_s,
        control_delays=scenario.control.delays,
    )


def _contradicting_moves(
    scenario: Scenario, where: dict[str, str], nves: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    latest: dict[str, Move] = {}
    ordered = sorted(enumerate(scenario.moves), key=lambda item: item[1].at_s)
    for number, move in ordered:
        place = f"moves.{number}"
        if move.vm not in where:
            yield f"{place}.vm", _no_such("VM", move.vm, where)
        if move.to not in nves:
            yield f"{place}.to", _no_such("NVE", move.to, nves)
        if move.at_s >= scenario.duration_s:
            yield f"{place}.at_s", f"this is after the end; raise duration_s above {move.at_s:g}"
        before = latest.get(move.vm)
        resumes_s = before.at_s + before.pause_ms / 1000 if before else 0.0
        if move.expect == "refused":
            if before is None or not before.at_s < move.at_s < resumes_s:
                yield (
                    f"{place}.expect",
                    f"nothing refuses a move of {move.vm} at {move.at_s:g}; "
                    "ask while it stands still in another move (at_s to at_s + pause_ms)",
                )
            continue
        if where.get(move.vm) == move.to:
            yield f"{place}.to", f"{move.vm} is at {move.to} already; name another NVE"
        if before is not None and move.at_s < resumes_s + GAP_S:
            yield (
                f"{place}.at_s",
                f"{move.vm} is still being moved at {move.at_s:g}; the earliest is "
                f"{resumes_s + GAP_S:g} (pause of the move before, and {GAP_S:g} s to arrive), "
                "or say expect: refused",
            )
        where[move.vm] = move.to
        latest[move.vm] = move


def _no_such(what: str, name: str, known: Any) -> str:
    return f"there is no {what} {name!r}; there are {', '.join(known)}"


# -- reading ---------------------------------------------------------------------------------------


def find(name: str) -> Path:
    """The file of a scenario that is named, or given as a path.  Raises ScenarioError."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml") or "/" in name:
        if not given.is_file():
            raise ScenarioError(f"{name}: there is no such file")
        return given
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, 1)
        hint = f", did you mean {near[0]}?" if near else ";"
        raise ScenarioError(f"there is no scenario {name!r}{hint} there are {', '.join(known)}")
    return file


def resolve(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any] | None = None
) -> Scenario:
    """The scenario, with `settings` (dotted key -> value) in place.  Raises ScenarioError."""
    edited = content
    for key, value in (settings or {}).items():
        edited = changed(edited, key.split("."), value, f"--set {key}")
    spelt_out, written_at = _spelt_out(edited, origin)
    try:
        return Scenario.model_validate(spelt_out)
    except ValidationError as error:
        raise ScenarioError(f"{origin}: {complaints(error, written_at)}") from None


def _spelt_out(content: dict[str, Any], origin: str) -> tuple[dict[str, Any], list[str]]:
    """The content with every move of its series listed, and where each move was written."""
    given = content.get("moves")
    if not isinstance(given, list):
        return content, []
    moves: list[Any] = []
    written_at: list[str] = []
    for number, entry in enumerate(given):
        place = f"moves.{number}"
        try:
            listed = list(Series.model_validate(entry).moves()) if is_series(entry) else [entry]
        except ValidationError as error:
            raise ScenarioError(f"{origin}: {place}.{complaints(error)}") from None
        moves += listed
        written_at += [place] * len(listed)
    return {**content, "moves": moves}, written_at


def variants(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any]
) -> dict[str, Scenario]:
    """The scenarios of a file by variant name; a file without variants has one, named ''."""
    whole = resolve(content, origin, settings)
    plain = changed(content, ["variants"], {}, "variants")
    if not whole.variants:
        return {"": whole}
    return {
        name: resolve(plain, f"{origin}: variant {name}", {**settings, **changes})
        for name, changes in whole.variants.items()
    }


def as_mapping(scenario: Scenario) -> dict[str, Any]:
    """The resolved scenario in plain values: as YAML, a file that reproduces it."""
    content = scenario.model_dump(mode="json", by_alias=True)
    topology = content["topology"]
    content["topology"] = {"kind": topology["kind"], **topology["parameters"]}
    return content


def complaints(error: ValidationError, written_at: Sequence[str] = ()) -> str:
    """pydantic's findings as sentences: field, what is wrong.

    `written_at`: where the n-th move was written, if that is not the n-th entry of `moves`.
    """
    sentences = []
    for found in error.errors():
        place = ".".join(str(part) for part in found["loc"] if part not in _KINDS)
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = "there is no such key here; check the spelling or remove it"
        if found["type"] == "missing":
            message = "this is missing; add it"
        if found["type"] == "contradiction":
            place, message = found["ctx"]["place"], found["ctx"]["complaint"]
        place = _as_written(place, written_at)
        sentences.append(f"{place}: {message}" if place else message)
    return "; ".join(dict.fromkeys(sentences))  # all moves of a series have the same mistake


def _as_written(place: str, written_at: Sequence[str]) -> str:
    """The place in the file: a move of a series stands where the series does."""
    part, _, rest = place.partition(".")
    number, _, field = rest.partition(".")
    if part != "moves" or not number.isdigit() or int(number) >= len(written_at):
        return place
    return f"{written_at[int(number)]}.{field}".rstrip(".")
