"""A data centre for a test, with as many VMs as the test needs."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from nve.model import VmSpec, mac, vni
from nve.ovs.bridge import edges
from topologies import catalogue
from topologies.emulation.data_centre import DataCentre, Nve, Vm
from topologies.emulation.session import Session
from topologies.spec import PLAIN_LINK, LinkSpec


def vm_spec(number: int, nve: str) -> VmSpec:
    """Return vm<number>, in virtual network 5000."""
    return VmSpec(
        f"vm{number}",
        vni(5000),
        mac(f"02:00:00:00:00:{number:02x}"),
        ip_address(f"10.0.0.{number}"),  # type: ignore[arg-type]
        ip_address(f"fd50::{number:x}"),  # type: ignore[arg-type]
        nve,
    )


@contextmanager
def data_centre(
    kind: str = "star",
    vms: tuple[VmSpec, ...] = (),
    control: LinkSpec = PLAIN_LINK,
    emulator: Any = "auto",
    **parameters: Any,
) -> Iterator[DataCentre]:
    """Yield a data centre that is up for the block; its session is closed afterwards."""
    topology = catalogue.get(kind)
    fabric = topology.build(topology.parameters.model_validate(parameters))
    with (
        Session.create("test") as session,
        DataCentre(fabric, vms, edges("auto"), session, "nva", control, emulator) as running,
    ):
        yield running


def round_trips_ms(
    running: DataCentre, source: Nve | Vm, target: str, count: int = 5
) -> list[float]:
    """Return what ping measures from a node to an address; lost packets are left out."""
    argv = ["ping", "-n", "-c", str(count), "-i", "0.005", "-W", "1", target]
    if isinstance(source, Vm):
        ping = running.in_vm(source.spec.name, argv, stdout=-1, text=True)
    else:
        ping = running.in_node(source.name, argv, stdout=-1, text=True)
    printed, _ = ping.communicate()
    return [float(found) for found in re.findall(r"time=([0-9.]+) ms$", printed, re.MULTILINE)]


def machine_interfaces() -> set[str]:
    """Return the interfaces in the machine's own namespace."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def running_processes(pids: Iterable[int]) -> set[int]:
    """Return the processes that have not ended; a zombie counts as ended."""
    return {pid for pid in pids if _state(pid) not in "ZX"}


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return stat[stat.rindex(")") + 2]
