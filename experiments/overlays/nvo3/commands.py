"""Commands of `vmmlab shell` that look into the NVA and its NVEs."""

from collections.abc import Mapping
from typing import Any

from experiments.errors import UsageError
from experiments.overlays import ShellCommand, ShellTable
from experiments.overlays.nvo3.nva import NvaProcess
from nve.ovs.bridge import OvsInstance
from topologies.emulation.data_centre import DataCentre


class Commands:
    """The commands; `by_name` has all of them."""

    def __init__(self, data_centre: DataCentre, nva: NvaProcess) -> None:
        self._data_centre = data_centre
        self._nva = nva

    @property
    def by_name(self) -> Mapping[str, ShellCommand]:
        return {
            "mapping": ShellCommand("mapping: the NVA's directory.", self._mapping),
            "flows": ShellCommand(
                "flows NVE [TABLE]: the rules the NVA wants there, named and in pipeline order.",
                self._flows,
            ),
            "counters": ShellCommand(
                "counters NVE: packets by rule, as the switch counts them; "
                "only rules with packets.",
                self._counters,
            ),
            "route": ShellCommand(
                "route ADDRESS VM: at layer 3, the address is that VM's from now on.", self._route
            ),
            "northbound": ShellCommand(
                "northbound: how to ask the NVA with curl from another terminal.",
                self._northbound,
            ),
        }

    def _mapping(self, _line: str) -> ShellTable:
        keys = ("vm", "vni", "mac", "addresses", "nve", "vtep", "sequence")
        rows = [
            [" ".join(row[key]) if key == "addresses" else row[key] for key in keys]
            for row in self._nva.get("mapping")
        ]
        headings = ("VM", "VNI", "MAC", "IP addresses", "NVE", "VTEP", "sequence")
        return ShellTable(headings, rows)

    def _flows(self, line: str) -> ShellTable:
        nve, _, table = line.strip().partition(" ")
        rules = self._ask(nve, "rules")
        tables = dict.fromkeys(row["table"] for row in rules)
        if table and table not in tables:
            raise UsageError(
                f"{nve} has no rules in table {table!r}; it has some in {', '.join(tables)}"
            )
        rows = [
            (
                row["table"],
                row["priority"],
                " ".join(f"{name}={value}" for name, value in row["match"].items()),
                ", ".join(row["actions"]),
                row["purpose"],
            )
            for row in rules
            if table in ("", row["table"])
        ]
        headings = ("table", "priority", "match", "actions", "why")
        return ShellTable(headings, rows, whole=("table", "why"))

    def _counters(self, line: str) -> ShellTable:
        if nve := self._data_centre.nves.get(line.strip()):
            OvsInstance.of(nve.edge).have_counted()
        keys = ("table", "purpose", "about", "packets", "bytes")
        counted = (row for row in self._ask(line, "counters") if row["packets"])
        headings = ("table", "why", "about", "packets", "bytes")
        return ShellTable(
            headings, [[row[key] for key in keys] for row in counted], whole=("table", "why")
        )

    def _route(self, line: str) -> str:
        address, vm, *more = [*line.split(), "", ""]
        if not vm or any(more):
            raise UsageError("say which and whose: route ADDRESS VM")
        before = self._nva.route(vm, address)
        return f"{address} is {vm}'s" + (f", and was {before}'s" if before else "")

    def _northbound(self, _line: str) -> str:
        socket = self._nva.socket
        return (
            f'curl --unix-socket {socket} -H "Authorization: Bearer '
            f'$(cat {socket.parent}/token)" http://nva/v1/mapping'
        )

    def _ask(self, line: str, what: str) -> Any:
        nve = line.strip()
        if nve not in self._data_centre.nves:
            raise UsageError(f"no NVE {nve!r}; there are {', '.join(self._data_centre.nves)}")
        return self._nva.get(f"nves/{nve}/{what}")
