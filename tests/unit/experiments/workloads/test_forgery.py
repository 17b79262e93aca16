"""Forgeries: what is refused before anything is started, and what is sent."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from experiments.measure.recording import RunRecorder
from experiments.measure.results import Result
from experiments.workloads.forgery import BY_STRANGER, BY_VM, Settings
from experiments.workloads.forging import forged
from nve.model import MAX_VNI, Mac
from tests.helpers.tenants import vm

ME, VICTIM = vm("vm3", 3, "nve2"), vm("vm1", 1, "nve1")
NETWORK = {"vm1": 5000, "vm3": 5000, "red1": 6000}
WIRE = forged.Wire(
    ip_address("10.1.0.1"),
    Mac("06:00:00:00:00:01"),
    frozenset(map(ip_address, ("10.1.0.1", "10.1.0.2", "10.1.0.91"))),
    frozenset({5000, MAX_VNI}),
)


def forgery(**changes: Any) -> Settings:
    given = {"kind": "forgery", "from": "vm3", "what": "garp", "victim": "vm1"}
    return Settings.model_validate({**given, **changes})


def test_every_attack_is_explained_and_none_twice() -> None:
    choices = set(Settings.model_fields["what"].annotation.__args__)  # type: ignore[union-attr]

    assert choices == BY_VM.keys() | BY_STRANGER.keys()
    assert BY_VM.keys() & BY_STRANGER.keys() == set()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"from": None}, "garp is sent by a VM; say which with from:"),
        ({"what": "wrong-vni"}, "wrong-vni is sent by a stranger on the underlay; leave from: out"),
        ({"what": "magic"}, "Input should be"),
        ({"rate_pps": 0}, "greater than 0"),
    ],
)
def test_what_makes_no_attack_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        forgery(**changes)


@pytest.mark.parametrize(
    ("changes", "place", "complaint"),
    [
        ({"from": "vm9"}, "from", "there is no VM 'vm9'; there are vm1, vm3, red1"),
        ({"victim": "vm9"}, "victim", "there is no VM 'vm9'"),
        ({"victim": "vm3"}, "victim", "vm3 cannot forge what is its own"),
        ({"victim": "red1"}, "victim", "name a VM of the network of vm3"),
    ],
)
def test_what_does_not_fit_the_vms_is_said(
    changes: dict[str, Any], place: str, complaint: str
) -> None:
    found = dict(forgery(**changes).contradictions(NETWORK, []))

    assert complaint in found[place]
    assert list(forgery().contradictions(NETWORK, [])) == []


@pytest.mark.parametrize("what", BY_VM)
def test_a_vm_forges_in_its_own_name_only_where_that_is_the_point(what: str) -> None:
    frames = forged.of_vm(what, ME, VICTIM)
    own = bytes.fromhex(ME.mac.replace(":", ""))

    assert frames
    assert all(len(frame) >= 42 for frame in frames)
    in_its_name = [frame[6:12] == own for frame in frames]
    assert all(in_its_name) is (what not in ("rarp", "source-mac"))


@pytest.mark.parametrize("what", ["arp-flood", "nd-flood", "miss-flood"])
def test_a_flood_asks_for_ever_others(what: str) -> None:
    assert len(set(forged.of_vm(what, ME, VICTIM))) == forged.DISTINCT


def test_a_stranger_is_nobody_or_somebody_else() -> None:
    """The first addresses behind the NVE's are taken, and so is the highest VNI."""
    assert str(WIRE.nobody()) == "10.1.0.92"
    assert str(WIRE.another_nve()) == "10.1.0.2"
    assert WIRE.no_network() == MAX_VNI - 1


@pytest.mark.parametrize(
    ("what", "source", "vni"),
    [("unknown-vtep", "10.1.0.92", 5000), ("wrong-vni", "10.1.0.2", None)],
)
def test_what_a_stranger_tunnels(what: str, source: str, vni: int | None) -> None:
    (frame,) = forged.of_stranger(what, WIRE, VICTIM)

    assert frame[26:30] == ip_address(source).packed
    assert frame[30:34] == WIRE.vtep.packed
    assert int.from_bytes(frame[46:49], "big") == (vni or WIRE.no_network())
    assert frame[50:56] == bytes.fromhex(VICTIM.mac.replace(":", ""))


def test_over_ipv6_too() -> None:
    vteps = frozenset(map(ip_address, ("fd00::1", "fd00::2")))
    (frame,) = forged.of_stranger(
        "wrong-vni", replace(WIRE, vtep=ip_address("fd00::1"), vteps=vteps), VICTIM
    )

    assert frame[12:14] == b"\x86\xdd"
    assert frame[22:38] == ip_address("fd00::2").packed


def test_what_was_refused_is_written_and_read_again(tmp_path: Path) -> None:
    row = {
        "nve": "nve1", "port": None, "vm": None, "tunnel_source": "10.1.0.2",
        "what": "unknown-vni", "counted_by": "nve", "packets": 3,
    }  # fmt: skip
    RunRecorder(tmp_path).refused([row])

    (read,) = Result(tmp_path, {}).refused
    assert read == {key: "" if value is None else str(value) for key, value in row.items()}
    assert Result(tmp_path / "older", {}).refused == []
