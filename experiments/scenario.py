"""A scenario: the whole of an experiment in one YAML file, validated before anything is started.

Every mistake is a sentence that names the file, the field and what would be right.  The resolved
scenario, defaults filled in, is written beside the results: running it again repeats the run.

Tenants number their VMs from 1, each tenant anew: the first VM of every virtual network has the
MAC address 02:00:00:00:00:01 and the same IP addresses.  So every scenario with two tenants shows
that they do not mix (R4.1.8).
"""

import difflib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from controller.dissemination import strategy
from experiments.errors import UsageError
from nve.model import NAME, VmSpec, mac, vni
from topologies import catalogue
from topologies.configuration import RESERVED
from topologies.spec import Fabric, LinkSpec, UnderlayParameters

FOLDER = Path(__file__).parent / "scenarios"
TENANT_IPV4 = IPv4Address("192.168.0.0")
TENANT_IPV6 = IPv6Address("fd77::")
Family = Literal["ipv4", "ipv6"]
SETTLE_S = 1.0
"""Slack added to the time-outs of one move before the VM's next move may begin."""


class ScenarioError(UsageError):
    """The scenario cannot be run as it is; the message names file, field and remedy."""


def _a_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name here: a letter, then up to 6 letters or digits")
    return text


Name = Annotated[str, AfterValidator(_a_name)]
VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]


class Part(BaseModel):
    """A part of a scenario: unknown keys are refused, nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Tenant(Part):
    """A virtual network and where its VMs start."""

    vni: int = Field(ge=1, le=2**24 - 1)
    vms: dict[Name, Name] = Field(min_length=1, max_length=1000)


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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        strategy(self.mapping_update, self.lifetime_s)
        if self.hold and self.in_flight == "drop":
            raise ValueError(
                "hold: true holds what the source NVE tunnels on; use in_flight: tunnel"
            )
        return self

    @property
    def settling_s(self) -> float:
        """The longest that a move's leftovers (old entries, in-flight tunnel) can live."""
        ending_s = self.idle_s if self.stop == "idle" else self.timer_s
        lifetime_s = strategy(self.mapping_update, self.lifetime_s).lifetime_s
        return (lifetime_s or 0) + ending_s + SETTLE_S


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


Traffic = Annotated[UdpProbe | TcpBulk, Field(discriminator="kind")]


class Move(Part):
    """One move, `at_s` seconds after the traffic began."""

    at_s: float = Field(ge=0)
    vm: Name
    to: Name
    mode: Literal["hot"] = "hot"
    pause_ms: float = Field(50, ge=0, le=600_000)
    announce: Literal["garp", "na", "both", "rarp", "none"] = "both"


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
    traffic: list[Traffic] = []
    moves: list[Move] = []
    duration_s: float = Field(gt=0, le=86_400)
    seed: int = Field(1, ge=0, le=2**31 - 1)
    datapath: Literal["auto", "system", "netdev"] = "auto"
    link_emulator: Literal["auto", "netem", "delay-line"] = "auto"
    variants: dict[VariantName, dict[str, Any]] = {}

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
            )
            for tenant in self.tenants
            for number, (name, nve) in enumerate(tenant.vms.items(), start=1)
        ]

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
        for end, vm in (("from", flow.source), ("to", flow.destination)):
            if vm not in where:
                yield f"traffic.{number}.{end}", _no_such("VM", vm, where)
        if flow.source == flow.destination:
            yield f"traffic.{number}", f"{flow.source} would talk to itself"
        if network.get(flow.source) != network.get(flow.destination):
            yield f"traffic.{number}", "its two VMs are in different virtual networks"
    yield from _contradicting_moves(scenario, where, nves)


def _contradicting_moves(
    scenario: Scenario, where: dict[str, str], nves: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    free_at_s: dict[str, float] = {}
    ordered = sorted(enumerate(scenario.moves), key=lambda item: item[1].at_s)
    for number, move in ordered:
        place = f"moves.{number}"
        if move.vm not in where:
            yield f"{place}.vm", _no_such("VM", move.vm, where)
        if move.to not in nves:
            yield f"{place}.to", _no_such("NVE", move.to, nves)
        if where.get(move.vm) == move.to:
            yield f"{place}.to", f"{move.vm} is at {move.to} already; name another NVE"
        earliest_s = free_at_s.get(move.vm, 0.0)
        if move.at_s < earliest_s:
            yield (
                f"{place}.at_s",
                f"{move.vm} is still being moved; the earliest is {earliest_s:g} "
                "(pause, entry lifetime and in-flight time-out of the move before, and a second)",
            )
        if move.at_s >= scenario.duration_s:
            yield f"{place}.at_s", f"this is after the end; raise duration_s above {move.at_s:g}"
        where[move.vm] = move.to
        free_at_s[move.vm] = move.at_s + move.pause_ms / 1000 + scenario.overlay.settling_s


def _no_such(what: str, name: str, known: Any) -> str:
    return f"there is no {what} {name!r}; there are {', '.join(known)}"


class _EachKeyOnce(yaml.SafeLoader):
    """YAML that does not let the second of two equal keys win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"this key is there twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep)


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


def read(file: Path) -> dict[str, Any]:
    """A scenario file's content, not yet validated.  Raises ScenarioError."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _EachKeyOnce)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{file}: this is not YAML: {_on_one_line(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise ScenarioError(f"{file}: a scenario is a mapping of keys such as name and topology")
    return content


def resolve(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any] | None = None
) -> Scenario:
    """The scenario, with `settings` (dotted key -> value) in place.  Raises ScenarioError."""
    changed = content
    for key, value in (settings or {}).items():
        changed = _with(changed, key.split("."), value, f"--set {key}")
    try:
        return Scenario.model_validate(changed)
    except ValidationError as error:
        raise ScenarioError(f"{origin}: {complaints(error)}") from None


def variants(
    content: dict[str, Any], origin: str, settings: Mapping[str, Any]
) -> dict[str, Scenario]:
    """The scenarios of a file by variant name; a file without variants has one, named ''."""
    whole = resolve(content, origin, settings)
    plain = _with(content, ["variants"], {}, "variants")
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


def setting(text: str) -> tuple[str, Any]:
    """`a.b=value` as given to --set.  Raises ScenarioError."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ScenarioError(f"--set {text}: write it as key=value, such as overlay.in_flight=drop")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ScenarioError(f"--set {text}: {value!r} is not a YAML value") from None


def _with(content: Any, path: list[str], value: Any, what: str) -> Any:
    """A copy of nested mappings and lists with one value replaced.

    `*` in place of a list's number means every entry that has the key: traffic.*.rate_pps.
    """
    here, *rest = path
    if isinstance(content, list) and here == "*" and rest:
        concerned = [isinstance(entry, dict) and rest[0] in entry for entry in content]
        if not any(concerned):
            raise ScenarioError(f"{what}: no entry of the list has {rest[0]!r}")
        return [
            _with(entry, rest, value, what) if its else entry
            for entry, its in zip(content, concerned, strict=True)
        ]
    if isinstance(content, list):
        if not here.isdigit() or int(here) >= len(content):
            raise ScenarioError(f"{what}: {here!r} is no place in a list of {len(content)}")
        place = int(here)
        replaced = _with(content[place], rest, value, what) if rest else value
        return [*content[:place], replaced, *content[place + 1 :]]
    if not isinstance(content, dict):
        raise ScenarioError(f"{what}: there is nothing below {content!r}")
    return {**content, here: _with(content.get(here, {}), rest, value, what) if rest else value}


def _on_one_line(error: yaml.YAMLError) -> str:
    """What the parser found and where, without the drawing."""
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
    return " ".join(what.split()) + place


def complaints(error: ValidationError) -> str:
    """pydantic's findings as sentences: field, what is wrong."""
    sentences = []
    for found in error.errors():
        place = ".".join(
            str(part) for part in found["loc"] if part not in ("udp-probe", "tcp-bulk")
        )
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            message = "there is no such key here; check the spelling or remove it"
        if found["type"] == "missing":
            message = "this is missing; add it"
        sentences.append(f"{place}: {message}" if place else message)
    return "; ".join(sentences)
