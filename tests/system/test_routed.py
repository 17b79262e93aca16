"""Layer 3 networks on real parts: the kernel's neighbour tables and `ping` are the judges.

Those with locators are in `test_ila.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.run.lab import Lab
from experiments.scenario.load import find, resolve
from experiments.scenario.yaml_source import read
from nve.model import GATEWAY_IPV4, GATEWAY_IPV6, NVE_MAC
from tests.helpers.nvo3 import nvo3
from tests.helpers.routed import WHERE, Routed, wire_octets
from tests.helpers.runs import END_MARKER_S, recorded, scenario, times_of

TENANT = {"vni": 5000, "layer": 3, "subnets": "per-nve", "vms": WHERE}
ENCAPSULATIONS = {"v": "vxlan", "p": "vxlan-l3"}
"""By the first letter of the VMs' names in a tenant that has it."""


def tenants() -> list[dict[str, object]]:
    """One for each encapsulation, in one data centre, with the same addresses."""
    return [
        {
            **TENANT,
            "vni": vni,
            "encapsulation": encapsulation,
            "vms": {letter + vm[-1]: nve for vm, nve in WHERE.items()},
        }
        for vni, (letter, encapsulation) in enumerate(ENCAPSULATIONS.items(), start=5000)
    ]


@pytest.fixture(scope="module")
def routed() -> Iterator[Routed]:
    wanted = scenario(traffic=[], moves=[], tenants=tenants(), duration_s=1)
    with Lab(wanted) as lab:
        yield Routed(lab)


@pytest.mark.shows("R4.2.1", "R4.2.4")
@pytest.mark.parametrize("of", ENCAPSULATIONS)
def test_a_vm_has_one_neighbour_however_many_peers(routed: Routed, of: str) -> None:
    for peer in ("2", "3", "4"):
        for address in (routed.vms[of + peer].ipv4, routed.vms[of + peer].ipv6):
            said = routed.ping(f"{of}1", address)
            assert " 0% packet loss" in said, said
    gateways = {str(GATEWAY_IPV4): NVE_MAC, str(GATEWAY_IPV6): NVE_MAC}
    assert routed.neighbours(f"{of}1") == gateways
    assert nvo3(routed.lab).differences() == []


def dropped(routed: Routed, what: str, vm: str | None = None) -> int:
    found = nvo3(routed.lab).refused()
    return sum(
        int(row["packets"])
        for row in found
        if row["what"] == what and (vm is None or row["vm"] == vm)
    )


@pytest.mark.shows("R4.2.1", "R4.2.4")
def test_the_nve_answers_for_nobody_but_itself(routed: Routed) -> None:
    """Asked for a peer on its own link, it is silent; nothing is broadcast to the peer, and what
    was asked is counted."""
    peer = routed.vms["v2"]
    before = dropped(routed, "not-routed", "v1")
    routed.run("v1", "ip", "route", "add", f"{peer.ipv4}/32", "dev", "eth0")
    routed.run("v1", "ip", "route", "add", f"{peer.ipv6}/128", "dev", "eth0")
    try:
        for address in (peer.ipv4, peer.ipv6):
            assert " 100% packet loss" in routed.ping("v1", address)
    finally:
        routed.run("v1", "ip", "route", "del", f"{peer.ipv4}/32", "dev", "eth0")
        routed.run("v1", "ip", "route", "del", f"{peer.ipv6}/128", "dev", "eth0")
    assert dropped(routed, "not-routed", "v1") > before
    heard = {*routed.neighbours("v2")}
    assert heard <= {str(GATEWAY_IPV4), str(GATEWAY_IPV6)}


@pytest.mark.shows("R4.2.1")
@pytest.mark.parametrize("peer", ["v2", "v4", "p4"])
def test_a_packet_passes_one_router(routed: Routed, peer: str) -> None:
    """The NVE takes one off the TTL, tells whose is over, and answers for itself."""
    for address, gateway in (
        (routed.vms[peer].ipv4, GATEWAY_IPV4),
        (routed.vms[peer].ipv6, GATEWAY_IPV6),
    ):
        assert "ttl=63" in routed.ping(f"{peer[0]}1", address)
        assert f"From {gateway}" in routed.ping(f"{peer[0]}1", address, "-t", "1")
        assert "ttl=63" in routed.ping(f"{peer[0]}1", address, "-t", "2")
        scope = "%eth0" if gateway.is_link_local and gateway.version == 6 else ""
        assert " 0% packet loss" in routed.ping(f"{peer[0]}1", f"{gateway}{scope}")


@pytest.mark.shows("R9.4")
def test_an_address_that_is_not_its_own_gets_a_vm_nowhere(routed: Routed) -> None:
    forged = "192.168.9.9"
    before = dropped(routed, "spoofed")
    routed.run("v1", "ip", "addr", "add", f"{forged}/32", "dev", "eth0")
    try:
        assert " 100% packet loss" in routed.ping("v1", routed.vms["v4"].ipv4, "-I", forged)
    finally:
        routed.run("v1", "ip", "addr", "del", f"{forged}/32", "dev", "eth0")
    assert dropped(routed, "spoofed") - before == 2


@pytest.mark.shows("R4.2.1")
def test_without_an_inner_ethernet_header_14_octets_less_are_on_the_wire(routed: Routed) -> None:
    """Captured on the underlay; the draft says 16, which an Ethernet header has only with a tag."""
    octets = {of: wire_octets(routed, of) for of in ENCAPSULATIONS}
    assert octets["v"] - octets["p"] == 14
    mtus = {of: routed.lab.data_centre.vms[f"{of}1"].mtu for of in ENCAPSULATIONS}
    assert mtus["p"] - mtus["v"] == 14
    for of, mtu in mtus.items():
        whole = ("-M", "do", "-s", str(mtu - 20 - 8))
        assert " 0% packet loss" in routed.ping(f"{of}1", routed.vms[f"{of}4"].ipv4, *whole)


@pytest.mark.shows("R3.3", "R4.2.1")
def test_a_host_route_takes_an_address_to_another_vm(tmp_path: Path) -> None:
    """From a VM at nve1 to one at nve2: who sends to it reaches the other one.  Fifty addresses are
    as many peers, and the VM has no more neighbours for that."""
    shared, *peers = (f"192.168.200.{number}" for number in range(1, 52))
    may_have = {shared: ["vm1", "vm3"], **{peer: ["vm3"] for peer in peers}}
    tenant = {**TENANT, "shared": may_have}
    wanted = scenario(traffic=[], moves=[], tenants=[tenant], duration_s=1)
    with Lab(wanted) as lab:
        routed = Routed(lab)
        for vm in ("vm1", "vm3"):
            assert " 100% packet loss" in routed.ping("vm4", shared)
            routed.run(vm, "ip", "addr", "add", f"{shared}/32", "dev", "eth0")
            said = nvo3(lab).can.commands["route"].answer(f"{shared} {vm}")
            assert str(said).startswith(f"{shared} is {vm}'s")
            assert " 0% packet loss" in routed.ping("vm4", shared)
            assert " 0% packet loss" in routed.ping("vm2", shared)
            routed.run(vm, "ip", "addr", "del", f"{shared}/32", "dev", "eth0")
        for peer in peers:
            routed.run("vm3", "ip", "addr", "add", f"{peer}/32", "dev", "eth0")
            nvo3(lab).nva.route("vm3", peer)
            assert " 0% packet loss" in routed.run("vm4", "ping", "-c", "1", "-W", "2", peer)
        assert len(peers) == 50
        assert routed.neighbours("vm4") == {str(GATEWAY_IPV4): NVE_MAC}
        assert nvo3(lab).differences() == []


@pytest.mark.shows("R3.3", "R4.2.1")
@pytest.mark.parametrize(
    ("mapping", "encapsulation"), [("push", "vxlan"), ("pull", "vxlan"), ("push", "vxlan-l3")]
)
def test_a_move_takes_the_host_route_along(
    tmp_path: Path, mapping: str, encapsulation: str
) -> None:
    """Nothing is lost, and in the end nothing crosses the NVE that the VM has left."""
    overlay = {"mapping_update": mapping, "hold": True, "end_marker": True, "idle_s": 1}
    overlay["end_marker_s"] = END_MARKER_S
    if mapping == "pull":
        overlay |= {"lifetime_s": 2, "on_expiry": "keep"}
    tenant = {**TENANT, "encapsulation": encapsulation}
    wanted = scenario(overlay=overlay, tenants=[tenant], duration_s=6)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert set(result.moves["lost"]) == {0}
    assert set(result.moves["reordered"]) == {0}
    assert set(result.moves["packets_via_source_after_convergence"]) == {0}


@pytest.mark.shows("R4.2.1")
def test_tcp_goes_on_through_a_move_at_layer_3(tmp_path: Path) -> None:
    bulk = {"kind": "tcp-bulk", "from": "vm4", "to": "vm1", "family": "ipv6", "rate_mbit": 5}
    wanted = scenario(traffic=[bulk], tenants=[TENANT], overlay__hold=True, duration_s=4)
    outcome, result = recorded(wanted, tmp_path / "result")

    assert outcome.problems == []
    assert result.throughput is not None
    (resumed_ns,) = times_of(result, "vm-resumed")
    after = result.throughput[result.throughput["t_ns"] > resumed_ns + 1e9]
    assert (after["bits_per_second"] > 0).any()


@pytest.mark.shows("R4.2.1.1", "R4.2.1.3")
def test_a_task_takes_its_address_along_by_a_host_route(tmp_path: Path) -> None:
    """Nobody hears it announced; its client's connection goes on."""
    file = find("task-move")
    content = read(file)
    tenants = [{**content["tenants"][0], "layer": 3}]
    moves = [{"at_s": 1, "task": "web", "to": "vm2"}]
    changes = {"tenants": tenants, "task_moves": moves, "traffic.*.rate_mbit": 8, "duration_s": 5}
    outcome, result = recorded(resolve(content, str(file), changes), tmp_path / "result")

    assert outcome.problems == []
    downloads = result.rows("download")
    assert downloads is not None
    assert set(downloads["outcome"]) == {"whole"}
    moved = [event for event in result.events if event.name == "host-route-moved"]
    assert [event.subject for event in moved] == ["vm1", "vm1", "vm2", "vm2"]
