"""The northbound interface as its callers see it: status, sentence, and no half-done work."""

import threading
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from controller.northbound.api import Northbound
from controller.northbound.bodies import MAX_REQUEST_BYTES
from controller.nva import Nva
from controller.southbound.framework import parser
from nve.model import MAX_VNI
from nve.pipeline.rules import PipelineTable
from nve.wire import announcement
from tests.helpers.nva import TOKEN, confirm, connected, settings
from tests.helpers.tenants import vm
from tests.helpers.wait import wait_until
from tests.helpers.wire import Wire

VM1, VM2 = vm("vm1", 1, "nve1"), vm("vm2", 2, "nve2")
ALLOWED = {"Authorization": f"Bearer {TOKEN}"}
ASSOCIATION = {
    "vm": "vm1",
    "vni": 5000,
    "mac": VM1.mac,
    "addresses": sorted(map(str, VM1.addresses)),
    "nve": "nve1",
    "port": 10,
}
OTHER = {
    **ASSOCIATION,
    "vm": "vm2",
    "mac": VM2.mac,
    "addresses": sorted(map(str, VM2.addresses)),
    "nve": "nve2",
}
MOVE = {"vm": "vm1", "to": "nve3", "port": 10, "idle_s": 2}


@pytest.fixture
def client(nva: Nva, wires: dict[str, Wire]) -> Client:
    return Client(Northbound(nva))


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Client, Nva]:
    """vm1 is associated.  For requests that are refused: they leave everything as it was."""
    nva = Nva(settings(tmp_path_factory.mktemp("refusing")))
    connected(nva)
    client = Client(Northbound(nva))
    assert ask(client, "POST", "associations", json=ASSOCIATION).status_code == 201
    return client, nva


def ask(client: Client, method: str, path: str, **options: Any) -> TestResponse:
    return client.open(f"/v1/{path}", method=method, headers=ALLOWED, **options)


def method_of(path: str) -> str:
    """How a thing is asked for."""
    return "PUT" if path.startswith("moves/") else "POST"


def error(response: TestResponse) -> str:
    """The sentence of a refusal; every refusal is JSON with one."""
    assert response.is_json
    sentence = response.get_json()["error"]
    assert isinstance(sentence, str)
    assert sentence
    return sentence


def is_barrier(message: object) -> bool:
    return isinstance(message, parser.OFPBarrierRequest)


def everything(nva: Nva) -> object:
    """What a refused request must not change."""
    authority = nva.authority
    return (
        list(authority.directory),
        [(move.key, move.phase) for move in authority.moves],
        {nve: authority.desired.rules(nve) for nve in authority.desired},
    )


# -- ok --------------------------------------------------------------------------------------------


def test_health_says_who_is_there(client: Client, nva: Nva, wires: dict[str, Wire]) -> None:
    nva.disconnected(wires["nve2"])
    health = ask(client, "GET", "health").get_json()

    assert health["connected"] == {"nve1": True, "nve2": False, "nve3": True}
    assert health["framework"]


@pytest.mark.shows("R4.1.2")
def test_an_association_is_in_the_mapping(client: Client) -> None:
    """VM addresses, VM MAC, NVE address."""
    response = ask(client, "POST", "associations", json=ASSOCIATION)

    assert (response.status_code, response.get_json()) == (201, {"vm": "vm1", "nve": "nve1"})
    assert ask(client, "GET", "mapping").get_json() == [
        {
            "vm": "vm1",
            "vni": 5000,
            "mac": VM1.mac,
            "addresses": ["192.168.0.1", "fd77::1", "fe80::ff:fe00:1"],
            "nve": "nve1",
            "vtep": "10.1.0.1",
            "sequence": 1,
        }
    ]


def test_an_association_is_answered_when_the_nve_has_confirmed_it(
    client: Client, nva: Nva, wires: dict[str, Wire]
) -> None:
    """Before that, the NVE would take the VM for a stranger."""
    response = ask(client, "POST", "associations?timeout_s=0", json=ASSOCIATION)

    assert response.status_code == 504
    assert error(response) == "nve1 has not confirmed its rules after 0 s"

    def confirm_when_asked() -> None:
        wait_until(lambda: None if any(map(is_barrier, wires["nve2"].sent)) else "not asked")
        confirm(nva, wires["nve2"])

    confirming = threading.Thread(target=confirm_when_asked)
    confirming.start()
    second = {**ASSOCIATION, "vm": "vm2", "mac": VM2.mac, "nve": "nve2"}
    second["addresses"] = sorted(map(str, VM2.addresses))
    assert ask(client, "POST", "associations?timeout_s=60", json=second).status_code == 201
    confirming.join()


@pytest.mark.shows("R6.1")
def test_a_move_from_request_to_release(client: Client, nva: Nva, wires: dict[str, Wire]) -> None:
    """Every step is asked for and answered."""
    ask(client, "POST", "associations", json=ASSOCIATION)
    confirm(nva, *wires.values())

    asked = ask(client, "PUT", "moves/a-move", json=MOVE)
    assert asked.status_code == 201
    assert asked.get_json()["phase"] == "preparing"
    for verb, phase in (("redirect", "redirecting"), ("activate", "activated")):
        confirm(nva, *wires.values())
        assert ask(client, "POST", f"moves/a-move/{verb}").get_json()["phase"] == phase

    confirm(nva, *wires.values())
    move = ask(client, "GET", "moves/a-move?until=converged&timeout_s=0").get_json()
    assert (move["from"], move["to"], move["phase"]) == ("nve1", "nve3", "converged")
    assert ask(client, "GET", "moves").get_json() == [move]
    released = ask(client, "DELETE", "associations/nve1/vm1")
    assert (released.status_code, released.get_json()) == (200, {"vm": "vm1", "nve": "nve1"})


def test_a_move_that_is_asked_for_again_is_the_same_move(client: Client, nva: Nva) -> None:
    ask(client, "POST", "associations", json=ASSOCIATION)
    new, again, other = (
        ask(client, "PUT", "moves/a-move", json=body)
        for body in (MOVE, MOVE, {**MOVE, "idle_s": 3})
    )

    assert (new.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert new.get_json() == again.get_json() == ask(client, "GET", "moves/a-move").get_json()
    assert error(other) == "move a-move is another one: of vm1 to nve3; take another key"
    assert [move.key for move in nva.authority.moves] == ["a-move"]
    accepted = [line for line in nva.trace.records if line.event == "move-accepted"]
    assert [line.details["move"] for line in accepted] == ["a-move"]


def test_a_move_can_be_rolled_back(client: Client) -> None:
    ask(client, "POST", "associations", json=ASSOCIATION)
    ask(client, "PUT", "moves/1", json=MOVE)

    assert ask(client, "POST", "moves/1/roll-back").get_json()["phase"] == "rolled-back"


def test_rules_are_shown_in_the_order_of_the_pipeline(client: Client) -> None:
    rules = ask(client, "GET", "nves/nve1/rules").get_json()

    assert rules[0]["table"] == "classify"
    assert {"table": "classify", "priority": 0, "match": {}, "actions": ["drop"]}.items() <= next(
        rule for rule in rules if rule["purpose"] == "unknown-port"
    ).items()


def test_the_trace_is_read_from_where_one_left_off(client: Client) -> None:
    ask(client, "POST", "associations", json=ASSOCIATION)
    whole = ask(client, "GET", "events").get_json()

    assert [line["event"] for line in whole] == ["nve-connected"] * 3 + ["vm-associated"]
    assert ask(client, "GET", "events?after=3").get_json() == whole[3:]


@pytest.mark.shows("R9.2")
def test_what_peers_did_wrong_is_counted_by_port(
    client: Client, nva: Nva, wires: dict[str, Wire]
) -> None:
    ask(client, "POST", "associations", json=ASSOCIATION)
    (forged,) = announcement.frames(VM2, "garp")
    nva.packet_came(
        parser.OFPPacketIn(
            wires["nve1"],
            table_id=PipelineTable.FROM_VM,
            match=parser.OFPMatch(in_port=10),
            data=forged,
        )
    )
    nva.act()

    for wire in wires.values():  # which do not say what they have counted
        nva.disconnected(wire)

    assert ask(client, "GET", "refused").get_json() == [
        {
            "nve": "nve1",
            "port": 10,
            "tunnel_source": None,
            "what": "forged",
            "vm": "vm1",
            "counted_by": "nva",
            "packets": 1,
        }
    ]


def test_entries_are_forgotten(client: Client) -> None:
    assert ask(client, "POST", "forget").status_code == 200


# -- unauthenticated -------------------------------------------------------------------------------


FORGED: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {TOKEN}0"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer \u00e4\u00f6\u00fc"},
]


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "health"), ("GET", "mapping"), ("POST", "associations"), ("GET", "no-such-thing")],
)
def test_without_the_token_nothing_is_said_or_done(
    client: Client, nva: Nva, method: str, path: str
) -> None:
    before = everything(nva)
    body = ASSOCIATION if method == "POST" else None
    for headers in FORGED:
        response = client.open(f"/v1/{path}", method=method, headers=headers, json=body)

        assert response.status_code == 401, headers
        assert error(response) == "send the token: Authorization: Bearer TOKEN", headers
        assert everything(nva) == before, headers


# -- malformed -------------------------------------------------------------------------------------

MALFORMED: dict[str, tuple[str, Any, str]] = {
    "no JSON": ("associations", b"{", "the body is not JSON"),
    "nothing": ("associations", b"", "the body is not JSON"),
    "not UTF-8": ("associations", b"\xff\xfe\xfd", "the body is not JSON"),
    "too deep": ("associations", b"[" * 60_000, "the body is not JSON"),
    "a list": ("associations", [], "the body: "),
    "missing": ("associations", {"vm": "vm1"}, "vni: Field required"),
    "unknown key": ("associations", {**ASSOCIATION, "cpu": 1}, "cpu: Extra inputs"),
    "VNI 0": ("associations", {**ASSOCIATION, "vni": 0}, f"VNI 0 is not in 1..{MAX_VNI}"),
    "VNI too large": ("associations", {**ASSOCIATION, "vni": 2**24}, f"is not in 1..{MAX_VNI}"),
    "VNI is a word": ("associations", {**ASSOCIATION, "vni": "red"}, "vni: "),
    "no MAC": ("associations", {**ASSOCIATION, "mac": "vm1"}, "'vm1' is not a MAC address"),
    "group MAC": ("associations", {**ASSOCIATION, "mac": "ff:ff:ff:ff:ff:ff"}, "group address"),
    "no IP": ("associations", {**ASSOCIATION, "addresses": ["here"]}, "addresses.0: "),
    "no host's IP": ("associations", {**ASSOCIATION, "addresses": ["ff02::1"]}, "addresses.0: "),
    "scoped IP": ("associations", {**ASSOCIATION, "addresses": ["fe80::1%eth0"]}, "addresses.0: "),
    "empty name": ("associations", {**ASSOCIATION, "vm": ""}, "vm: "),
    "many addresses": ("associations", {**ASSOCIATION, "addresses": ["1.1.1.1"] * 65}, "addresses"),
    "move of nobody": ("moves/1", {}, "vm: Field required"),
    "time-out": ("moves/1", {**MOVE, "idle_s": 70_000}, "idle_s: "),
    "negative": ("moves/1", {**MOVE, "idle_s": -1}, "idle_s: "),
    "deadline": ("moves/1", {**MOVE, "deadline_s": 0}, "deadline_s: "),
    "in flight": (
        "moves/1",
        {**MOVE, "in_flight": "bounce"},
        "in_flight: Input should be 'tunnel'",
    ),
    "more than a move": ("moves/1", {**MOVE, "cpu": 1}, "cpu: "),
    "key": ("moves/-", MOVE, "'-' is no key for a move; take 1 to 64 of"),
    "until": ("moves/1?until=soon", MOVE, "soon"),
    "how long": ("moves/1?until=prepared&timeout_s=soon", MOVE, "timeout_s"),
    "how long, NaN": ("moves/1?until=prepared&timeout_s=nan", MOVE, "timeout_s"),
}


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize(("path", "body", "complaint"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_and_changes_nothing(
    refusing: tuple[Client, Nva], path: str, body: Any, complaint: str
) -> None:
    client, nva = refusing
    before = everything(nva)
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}

    response = ask(client, method_of(path), path, **sent)

    assert response.status_code == 400
    assert complaint in error(response)
    assert everything(nva) == before


# -- unknown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "complaint"),
    [
        ("POST", "associations", "no NVE 'nve9' here; there are nve1, nve2, nve3"),
        ("PUT", "moves/1", "no VM 'vm9' here; there are vm1"),
        ("GET", "no-such-thing", ""),
        ("GET", "nves/nve9/rules", "no 'nve9' here, or it is not connected"),
        ("GET", "nves/nve9/counters", "no 'nve9' here, or it is not connected"),
        ("GET", "moves/9", "there is no move '9'"),
        ("POST", "moves/9/redirect", "there is no move '9'"),
        (
            "POST",
            "moves/1/hurry",
            "a move can be told to redirect, activate, roll-back, not to hurry",
        ),
        ("DELETE", "associations/nve1/vm9", "no VM 'vm9' here"),
        ("DELETE", "associations/nve9/vm1", "no NVE 'nve9' here"),
    ],
)
def test_what_is_not_there_is_not_found(
    refusing: tuple[Client, Nva], method: str, path: str, complaint: str
) -> None:
    client, nva = refusing
    before = everything(nva)
    bodies = {
        "associations": {**ASSOCIATION, "vm": "vm2", "nve": "nve9"},
        "moves/1": {**MOVE, "vm": "vm9"},
    }
    response = ask(client, method, path, json=bodies.get(path))

    assert response.status_code == 404
    assert complaint in error(response)
    assert everything(nva) == before


def test_counters_of_an_nve_that_is_away_are_not_found(
    client: Client, nva: Nva, wires: dict[str, Wire]
) -> None:
    nva.disconnected(wires["nve1"])

    assert ask(client, "GET", "nves/nve1/counters").status_code == 404


def test_a_wrong_method_is_said_so(client: Client) -> None:
    response = ask(client, "DELETE", "mapping")

    assert response.status_code == 405
    assert error(response)


# -- refused in this state -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("associations", {**ASSOCIATION, "port": 11}, "vm1 is associated already"),
        ("associations", {**ASSOCIATION, "port": 1}, "port 1 cannot be a VM's"),
        ("associations", {**ASSOCIATION, "port": 2**40}, "cannot be a VM's; VM ports are"),
        ("moves/1", {**MOVE, "to": "nve1"}, "vm1 is at nve1 already"),
        ("moves/1", {**MOVE, "timer_s": 2}, "say either idle_s or timer_s"),
    ],
)
def test_what_cannot_be_now_is_a_conflict_and_changes_nothing(
    refusing: tuple[Client, Nva], path: str, body: dict[str, Any], complaint: str
) -> None:
    client, nva = refusing
    before = everything(nva)

    response = ask(client, method_of(path), path, json=body)

    assert response.status_code == 409
    assert complaint in error(response)
    assert everything(nva) == before


def test_a_move_names_the_nves_that_its_vm_sends_to(
    client: Client, nva: Nva, wires: dict[str, Wire]
) -> None:
    """All in reach with another VM of its network."""
    ask(client, "POST", "associations", json=ASSOCIATION)
    assert ask(client, "PUT", "moves/1", json=MOVE).get_json()["network_nves"] == []
    ask(client, "POST", "associations", json=OTHER)
    assert ask(client, "GET", "moves/1").get_json()["network_nves"] == ["nve2"]
    nva.disconnected(wires["nve2"])
    assert ask(client, "GET", "moves/1").get_json()["network_nves"] == []


def test_a_step_out_of_turn_is_a_conflict(client: Client) -> None:
    ask(client, "POST", "associations", json=ASSOCIATION)
    ask(client, "PUT", "moves/1", json=MOVE)
    response = ask(client, "POST", "moves/1/activate")

    assert response.status_code == 409
    assert "a move that is preparing cannot take the event activated" in error(response)


def test_waiting_in_vain_ends_with_a_sentence(client: Client) -> None:
    ask(client, "POST", "associations", json=ASSOCIATION)
    response = ask(client, "PUT", "moves/1?until=prepared&timeout_s=0", json=MOVE)

    assert response.status_code == 504
    assert error(response) == "move 1 is preparing, not prepared, after 0 s"


# -- too large -------------------------------------------------------------------------------------


@pytest.mark.shows("R8.2")
@pytest.mark.parametrize("octets", [MAX_REQUEST_BYTES + 1, 10 * MAX_REQUEST_BYTES])
def test_a_body_that_is_too_large_is_not_read(client: Client, nva: Nva, octets: int) -> None:
    before = everything(nva)
    response = ask(client, "POST", "associations", data=b" " * octets)

    assert response.status_code == 413
    assert error(response)
    assert everything(nva) == before
