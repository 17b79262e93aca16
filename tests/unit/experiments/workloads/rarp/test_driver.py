"""What a diskless client has written down is told while it happens, and nothing of it twice."""

from ipaddress import IPv4Address
from pathlib import Path

from experiments.workloads.rarp import talk
from experiments.workloads.rarp.driver import Diskless
from tests.helpers.lab import vm_spec


def test_an_address_that_is_back_is_told_once(tmp_path: Path) -> None:
    vm = vm_spec(1, "nve1")
    client = Diskless(vm, 24, tmp_path, start=lambda *_, **__: None)
    assert client.new_events() == []

    notes = tmp_path / "vm1.rarp"
    told = []
    for t_ns in (10, 20):
        request = talk.Request(t_ns, 1, t_ns + 5, str(IPv4Address(vm.ipv4)), True)
        with notes.open("a", encoding="utf-8") as file:
            file.write(request.line())
        told.append([(event.t_ns, event.name) for event in client.new_events()])
    assert told == [[(15, "address-restored")], [(25, "address-restored")]]
    assert client.collect().events == []
    assert len(client.collect().rows) == 2
