"""A task with Multipath TCP gets another address, and its peers' connections go on over that.

Hosts on one switch, between kernels: the move of its VM is only said here; `test_five_ways.py` has
one in a data centre.
"""

import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import pytest

from experiments.measure.event_log import EventLog
from experiments.run.tasks import RunningTask
from experiments.scenario.tasks import Task
from nve.linux.capabilities import multipath_tcp_available
from nve.linux.namespace import inside, run_in
from nve.task import multipath
from tests.helpers.hosts import NIC, Hosts, hosts
from tests.helpers.task_trials import answered
from tests.helpers.wait import wait_until

MPTCP = 262
OLD, NEW = "10.9.0.51", "10.9.0.52"

pytestmark = pytest.mark.skipif(
    not multipath_tcp_available(), reason="this kernel has no Multipath TCP"
)


@pytest.fixture
def network() -> Iterator[Hosts]:
    with hosts(["a", "c"]) as made:
        made.vms["a"].spec.nve = "nve1"
        yield made


def test_a_connection_outlives_its_address(network: Hosts) -> None:
    at = {nve: tuple(map(ip_address, [own])) for nve, own in (("nve1", OLD), ("nve2", NEW))}
    arguments = {"octets": 100}
    asked = Task(on="a", program="http-server", multipath=True, addresses=at, arguments=arguments)
    log = EventLog()
    task = RunningTask(network, "web", asked, log)  # type: ignore[arg-type]
    log.subscribe(task.hear)
    task.start()
    with closing(task):
        with inside(network.of["c"].pid):
            multipath.allow_here()
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
            client.settimeout(5)
            client.connect((OLD, 80))
        with closing(client):
            assert answered(client)
            log.note("hypervisor", "vm-resumed", "a", nve="nve2")
            wait_until(
                lambda: (
                    None
                    if {"address-withdrawn", "address-not-replaced"}
                    & {event.name for event in log.after()}
                    else "the address is not replaced yet"
                ),
                20,
            )
            task.settle()
            assert task.problems == []
            shown = run_in(network.of["a"].pid, ["ip", "-brief", "address", "show", NIC])
            assert NEW in shown
            assert OLD not in shown
            for _ in range(3):
                assert answered(client)
    names = [event.name for event in log.after() if event.name.startswith(("address", "subflows"))]
    assert names == [
        *("address-configured", "address-signalled", "subflows-joined", "address-withdrawn"),
    ]
