"""On-boarding as callers of the northbound interface see it: three messages, and refusals."""

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from controller.northbound.api import Northbound
from controller.northbound.bodies import MAX_REQUEST_BYTES
from controller.nva import Nva
from controller.settings import Settings
from tests.helpers.nva import TOKEN, confirm, connected, settings
from tests.helpers.tenants import vm

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
INTERFACE = {"vni": 5000, "mac": VM1.mac, "addresses": sorted(map(str, VM1.addresses))}
RESOURCES = {"cpu": 0.5, "memory_mb": 64, "storage_mb": 0, "processes": 20}
WANTED = {"interface": INTERFACE, "resources": RESOURCES}


def limited(directory: Path) -> Settings:
    """nve1 has 100 MB of memory, nve2 and nve3 200."""
    plain = settings(directory).model_dump()
    for name, nve in plain["nves"].items():
        nve["capacity"] = {"memory_mb": 100 if name == "nve1" else 200}
    return Settings.model_validate(plain)


@pytest.fixture
def nva(tmp_path: Path) -> Nva:
    return Nva(limited(tmp_path))


@pytest.fixture
def client(nva: Nva) -> Client:
    connected(nva)
    return Client(Northbound(nva))


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """vm1 has an offer at nve1.  For requests that are refused: they leave everything as it was."""
    nva = Nva(limited(tmp_path_factory.mktemp("offered")))
    connected(nva)
    client = Client(Northbound(nva))
    assert ask(client, "PUT", "vms/vm1", json=WANTED).status_code == 201
    return client


def ask(client: Client, method: str, path: str, token: str | None = TOKEN, **options: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.open(f"/v1/{path}", method=method, headers=headers, **options)


def error(response: TestResponse) -> str:
    answered = response.get_json()
    assert list(answered) == ["error"], answered
    return str(answered["error"])


def everything(client: Client) -> list[Any]:
    """What a refused request must not change."""
    return [ask(client, "GET", what).get_json() for what in ("vms", "capacity", "mapping")]


@pytest.mark.shows("R8.2")
def test_a_vm_is_on_boarded_adjusted_and_off_boarded(client: Client, nva: Nva) -> None:
    offered = ask(client, "PUT", "vms/vm1", json=WANTED)
    assert offered.status_code == 201
    offer = offered.get_json()
    assert (offer["vm"], offer["phase"], offer["nves"]) == ("vm1", "offered", ["nve1"])
    assert offer["resources"] == RESOURCES
    free = {nve: left["memory_mb"] for nve, left in offer["available"].items()}
    assert free == {"nve1": 100, "nve2": 200, "nve3": 200}
    assert ask(client, "GET", "mapping").get_json() == []
    assert ask(client, "PUT", "vms/vm1", json=WANTED).status_code == 200, "the same again"

    confirmation = {"offer": offer["offer"], "port": 10}
    in_use = ask(client, "POST", "vms/vm1/confirm", json=confirmation)
    assert (in_use.status_code, in_use.get_json()["phase"]) == (200, "in-use")
    assert ask(client, "GET", "vms/vm1").get_json() == in_use.get_json()
    (line,) = ask(client, "GET", "mapping").get_json()
    assert (line["vm"], line["nve"], line["addresses"]) == ("vm1", "nve1", INTERFACE["addresses"])

    adjusted = {"resources": {**RESOURCES, "memory_mb": 90}}
    assert ask(client, "POST", "vms/vm1/adjust", json=adjusted).status_code == 200
    server, *_ = ask(client, "GET", "capacity").get_json()
    assert server == {
        "nve": "nve1",
        "capacity": {"cpu": None, "memory_mb": 100, "storage_mb": None, "processes": None},
        "free": {"cpu": None, "memory_mb": 10, "storage_mb": None, "processes": None},
        "taken": [{"vm": "vm1", "standby": False, **adjusted["resources"]}],
    }

    assert ask(client, "DELETE", "vms/vm1").status_code == 200
    assert ask(client, "GET", "mapping").get_json() == []
    assert ask(client, "GET", "vms/vm1").get_json()["phase"] == "off-boarded"
    assert ask(client, "GET", "capacity").get_json()[0]["taken"] == []
    events = [line.event for line in nva.trace.records if line.subject == "vm1"]
    assert events == [
        *("vm-offered", "vm-associated", "vm-on-boarded", "vm-adjusted", "vm-off-boarded")
    ]


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "vms/vm9", WANTED),
        ("POST", "vms/vm1/confirm", {"offer": 1, "port": 10}),
        ("POST", "vms/vm1/adjust", {"resources": {}}),
        ("DELETE", "vms/vm1", None),
        ("PUT", "vms/vm1/standby", {"nve": "nve2", "resources": {}}),
        ("DELETE", "vms/vm1/standby", None),
        ("PUT", "moves/1", {"vm": "vm1", "to": "nve2", "port": 10, "idle_s": 2}),
    ],
)
def test_a_forged_request_is_refused_and_changes_nothing(
    offered: Client, method: str, path: str, body: Any
) -> None:
    """On-boarding and registration of moves alike."""
    before = everything(offered)
    for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "0"):
        refused = ask(offered, method, path, token, json=body)

        assert refused.status_code == 401, token
        assert error(refused) == "send the token: Authorization: Bearer TOKEN", token
        assert everything(offered) == before, token
    assert ask(offered, "GET", "moves").get_json() == []


MALFORMED: dict[str, tuple[str, str, Any, int, str]] = {
    # what: (method, path, body, status, complaint)
    "no interface": ("PUT", "vms/vm9", {"resources": {}}, 400, "interface: Field required"),
    "no resources": ("PUT", "vms/vm9", {"interface": INTERFACE}, 400, "resources: Field required"),
    "unknown resource": (
        *("PUT", "vms/vm9", {**WANTED, "resources": {"gpu": 1}}, 400),
        "there is no resource 'gpu'; there are cpu, memory_mb, storage_mb, processes",
    ),
    "less than nothing": (
        *("PUT", "vms/vm9", {**WANTED, "resources": {"cpu": -1}}, 400),
        "cpu is -1.0; give a number from 0 to 4096",
    ),
    "no MAC": (
        *("PUT", "vms/vm9", {**WANTED, "interface": {**INTERFACE, "mac": "x"}}, 400),
        "'x' is not a MAC address",
    ),
    "no lease": ("PUT", "vms/vm9", {**WANTED, "lease_s": 0}, 400, "lease_s: Input should be great"),
    "too long a name": ("PUT", f"vms/{'x' * 33}", WANTED, 400, "at most 32 characters"),
    "too much": (
        *("PUT", "vms/vm9", {**WANTED, "resources": {"memory_mb": 201}}, 409),
        "no server has room for vm9, which wants 201 MB of memory; free are: nve1 (any CPU, 36 MB",
    ),
    "too much there": (
        *("PUT", "vms/vm9", {**WANTED, "nve": "nve1"}, 409),
        "nve1 has no room for vm9: 64 MB of memory wanted, 36 free; make room there, or name",
    ),
    "unknown place": ("PUT", "vms/vm9", {**WANTED, "nve": "nve9"}, 404, "no NVE 'nve9' here"),
    "another offer": (
        *("PUT", "vms/vm1", {**WANTED, "nve": "nve2"}, 409),
        "vm1 has another offer, number 1, at nve1; confirm that, or wait until it lapses",
    ),
    "no such offer": (
        *("POST", "vms/vm1/confirm", {"offer": 7, "port": 10}, 409),
        "vm1 has no offer number 7; ask for one",
    ),
    "nobody's": (
        *("POST", "vms/vm9/confirm", {"offer": 1, "port": 10}, 409),
        "vm9 has no offer number 1; ask for one",
    ),
    "no port": (
        *("POST", "vms/vm1/confirm", {"offer": 1, "port": 1}, 409),
        "port 1 cannot be a VM's; VM ports are",
    ),
    "adjusted too soon": ("POST", "vms/vm1/adjust", {"resources": {}}, 404, "no VM 'vm1' here"),
    "ended too soon": ("DELETE", "vms/vm1", None, 404, "no VM 'vm1' here"),
    "asked for by nobody": ("GET", "vms/vm9", None, 404, "nobody has asked for 'vm9'"),
}


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "complaint"), MALFORMED.values(), ids=MALFORMED
)
def test_what_cannot_be_is_a_sentence_and_changes_nothing(
    offered: Client, method: str, path: str, body: Any, status: int, complaint: str
) -> None:
    """The interface of other VMs than vm1 is vm2's."""
    if isinstance(body, dict) and body.get("interface") == INTERFACE and path != "vms/vm1":
        theirs = {"mac": VM2.mac, "addresses": sorted(map(str, VM2.addresses))}
        body = {**body, "interface": {**INTERFACE, **theirs}}
    before = everything(offered)
    refused = ask(offered, method, path, json=body)

    assert refused.status_code == status
    assert complaint in error(refused)
    assert everything(offered) == before


@pytest.mark.shows("R8.2")
def test_a_request_that_is_too_large_is_not_read(client: Client) -> None:
    before = everything(client)
    refused = ask(client, "PUT", "vms/vm1", data=b" " * (MAX_REQUEST_BYTES + 1))

    assert refused.status_code == 413
    assert error(refused)
    assert everything(client) == before


@pytest.mark.shows("R8.2")
def test_an_offer_that_has_lapsed_is_not_confirmed(client: Client, nva: Nva) -> None:
    offer = ask(client, "PUT", "vms/vm1", json={**WANTED, "lease_s": 1e-6}).get_json()["offer"]
    late = ask(client, "POST", "vms/vm1/confirm", json={"offer": offer, "port": 10})

    assert late.status_code == 409
    assert "is not open any more: it had to be confirmed within 1e-06 s; ask" in error(late)
    nva.tick()
    assert ask(client, "GET", "vms/vm1").get_json()["phase"] == "lapsed"
    assert ask(client, "GET", "capacity").get_json()[0]["taken"] == []


@pytest.mark.shows("R6.1")
def test_a_move_names_source_destination_memory_and_disk(client: Client, nva: Nva) -> None:
    """Accepted where there is room, and refused before anything is changed where there is none."""
    offer = ask(client, "PUT", "vms/vm1", json={**WANTED, "nve": "nve2"}).get_json()["offer"]
    ask(client, "POST", "vms/vm1/confirm", json={"offer": offer, "port": 10})
    confirm(nva, *(nva.sender.of(nve) for nve in nva.authority.desired))
    move = {"vm": "vm1", "source": "nve2", "to": "nve1", "memory_mb": 64, "disk_mb": 0}
    move |= {"port": 10, "idle_s": 2}
    fill = {**WANTED, "resources": {"memory_mb": 50}, "nve": "nve1"}
    fill["interface"] = {"vni": 6000, "mac": VM1.mac, "addresses": []}
    ask(client, "PUT", "vms/vm2", json=fill)
    before = everything(client)

    refused = ask(client, "PUT", "moves/1", json=move)
    assert refused.status_code == 409
    assert error(refused).startswith("nve1 has no room for vm1: 64 MB of memory wanted, 50 free")
    wrong = ask(client, "PUT", "moves/1", json={**move, "source": "nve3"})
    assert error(wrong).startswith("vm1 is at nve2, not at nve3")
    assert everything(client) == before
    assert ask(client, "GET", "moves").get_json() == []
    accepted = ask(client, "PUT", "moves/1", json={**move, "to": "nve3"})
    assert accepted.status_code == 201
    assert (accepted.get_json()["from"], accepted.get_json()["memory_mb"]) == ("nve2", 64)
