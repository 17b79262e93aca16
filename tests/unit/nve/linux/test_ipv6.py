"""What `ip` is told on a kernel without IPv6."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from nve.linux import ipv6, namespace
from nve.linux.ipv6 import left_out
from nve.model import VmSpec, mac, vni
from topologies import catalogue
from topologies.configuration import Configuration

VM = VmSpec(
    "vm1",
    vni(5000),
    mac("02:00:00:00:00:01"),
    ip_address("192.168.0.1"),  # type: ignore[arg-type]
    ip_address("fd77::1"),  # type: ignore[arg-type]
    "nve1",
    secondary=(ip_address("192.168.1.1"), ip_address("fd77::1:1")),
)


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("link set eth0 mtu 1450 addrgenmode eui64", ["link set eth0 mtu 1450"]),
        ("link set eth0 addrgenmode none up", ["link set eth0 up"]),
        ("link set eth0 addrgenmode none", []),
        ("addr add fd77::1/64 dev eth0 nodad", []),
        ("addr add 192.168.0.1/16 dev eth0", ["addr add 192.168.0.1/16 dev eth0"]),
        ("neigh replace fd77::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent", []),
        ("route add fd00::/64 via fd01::1", []),
        ("route add default via 10.0.0.1", ["route add default via 10.0.0.1"]),
    ],
)
def test_what_a_command_says_of_ipv6_is_left_out(command: str, left: list[str]) -> None:
    assert left_out([command]) == left


@pytest.mark.parametrize("kind", catalogue.names())
def test_no_node_of_any_topology_is_told_anything_of_ipv6(kind: str) -> None:
    topology = catalogue.get(kind)
    fabric = topology.build(topology.parameters())
    vm = replace(VM, nve=fabric.nves[0])
    told = Configuration(fabric, (vm,), None, "nva")
    commands = [
        command for name in told.roles for command in (*told.bring_up(name), *told.configure(name))
    ]
    assert any(" fd" in command for command in commands)
    assert any("addrgenmode" in command for command in commands)
    left = left_out(commands)
    assert not [each for each in left if " fd" in each or "addrgenmode" in each]
    assert f"addr add {VM.ipv4}/16 dev eth0" in left


def test_nothing_is_written_where_the_kernel_has_no_settings_of_ipv6(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setattr(ipv6, "available", lambda: False)
    monkeypatch.setattr(Path, "write_text", lambda path, *_, **__: written.append(str(path)))
    own = Path("/proc/self").resolve().name
    monkeypatch.setattr(namespace, "_set_namespace", lambda _: None)
    namespace.set_sysctls(int(own), {"ipv6/conf/all/accept_ra": 0, "ipv4/ip_forward": 1})
    assert written == ["/proc/sys/net/ipv4/ip_forward"]


def test_a_socket_serves_ipv4_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipv6, "available", lambda: False)
    with ipv6.udp_socket(0) as serving:
        assert serving.getsockname()[0] == "0.0.0.0"
