"""The NVA's northbound interface: HTTP over a unix socket, for the orchestrator and for `curl`.

    GET    /v1/health                          alive; framework, NVEs connected
    GET    /v1/mapping                         the directory
    GET    /v1/nves/NVE/rules                  what the NVE should hold
    GET    /v1/nves/NVE/counters               what its rules have counted, by purpose
    GET    /v1/refused                         what NVEs dropped and the NVA refused, and whose
    GET    /v1/events?after=N                  the trace from record N on
    GET    /v1/nves/NVE/meters                 what its VMs had it report, and what was too much
    POST   /v1/associations                    a VM starts behind an NVE; with `timeout_s`, answers
                                               when that has the rules of the VM's port
    DELETE /v1/associations/NVE/VM             its port there is gone
    PUT    /v1/vms/VM                          on-boarding (R8.2): which resources a VM wants; the
                                               answer is an offer, what is available and where
    POST   /v1/vms/VM/confirm                  puts the offer to use: the VM starts there
    POST   /v1/vms/VM/adjust                   it is to have other resources where it is
    PUT    /v1/vms/VM/standby                  keeps room on the server of an NVE for its standby
    DELETE /v1/vms/VM/standby                  none is needed any more
    DELETE /v1/vms/VM                          it has ended: nothing is left of it
    GET    /v1/vms, /v1/vms/VM                 all that were asked for like this; one
    GET    /v1/capacity                        what each server has, and who takes what of it
    PUT    /v1/host-routes/ADDRESS             at layer 3, the address belongs to {"vm": name} from
                                               now on; answers with who had it
    PUT    /v1/moves/KEY                       prepare a move; KEY is the caller's name for it, and
                                               the same body again asks for nothing new
    GET    /v1/moves, /v1/moves/KEY            all moves; one
    GET    /v1/moves/KEY/astray                what came to its source NVE without being for it
    POST   /v1/moves/KEY/redirect              the VM is about to stop: tunnel or drop its packets;
                                               it is suspended, or lost: take nothing from it
    POST   /v1/moves/KEY/activate              it runs at the destination
    POST   /v1/moves/KEY/roll-back             it stays at the source
    POST   /v1/forget                          take back entries with a lifetime

`?until=PHASE&timeout_s=S` on a request about a move waits until the move is in that phase or past
it.  Every request needs `Authorization: Bearer TOKEN`.  Errors are JSON `{"error": sentence}`: 400
malformed, 401 without the token, 404 no such thing, 409 refused in this state, 413 too large.
"""

import hmac
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from pydantic import (
    TypeAdapter,
    ValidationError,
)
from werkzeug import Request, Response
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    NotFound,
    Unauthorized,
)
from werkzeug.routing import Map, Rule

from controller.core.drops import Reason
from controller.core.move import Move, MoveRequest, move_key
from controller.core.move_fsm import FINISHED, Phase
from controller.core.refusals import RequestRefused, Unknown
from controller.northbound.bodies import (
    MAX_REQUEST_BYTES,
    AssociationBody,
    FenceBody,
    HostRouteBody,
    InstanceBody,
    as_answer,
    body_of,
    timeout_s_of,
)
from controller.northbound.onboarding import OnboardingRoutes
from controller.nva import Nva
from controller.southbound import framework
from controller.storage.trace import as_json
from nve.pipeline.flow_dump import words
from nve.pipeline.limits import metered

_MOVE_REQUEST: Final = TypeAdapter(MoveRequest)


class Northbound:
    """The WSGI application."""

    def __init__(self, nva: Nva) -> None:
        self._nva = nva
        self._authority = nva.authority
        onboarding = OnboardingRoutes(nva, self._await_confirmation)
        self._routes = Map(
            [
                Rule("/v1/health", endpoint=self._health, methods=["GET"]),
                Rule("/v1/mapping", endpoint=self._mapping, methods=["GET"]),
                Rule("/v1/nves/<nve>/rules", endpoint=self._rules, methods=["GET"]),
                Rule("/v1/nves/<nve>/counters", endpoint=self._counters, methods=["GET"]),
                Rule("/v1/nves/<nve>/meters", endpoint=self._meters, methods=["GET"]),
                Rule("/v1/events", endpoint=self._events, methods=["GET"]),
                Rule("/v1/refused", endpoint=self._refused, methods=["GET"]),
                Rule("/v1/associations", endpoint=self._associate, methods=["POST"]),
                Rule("/v1/associations/<nve>/<vm>", endpoint=self._dissociate, methods=["DELETE"]),
                *onboarding.routes(),
                Rule("/v1/instances/<vm>/<nve>", endpoint=self._add_instance, methods=["PUT"]),
                Rule(
                    "/v1/instances/<vm>/<nve>/fence",
                    endpoint=self._fence_instance,
                    methods=["POST"],
                ),
                Rule("/v1/host-routes/<address>", endpoint=self._route, methods=["PUT"]),
                Rule("/v1/moves", endpoint=self._moves, methods=["GET"]),
                Rule("/v1/moves/<key>", endpoint=self._request_move, methods=["PUT"]),
                Rule("/v1/moves/<key>", endpoint=self._move, methods=["GET"]),
                Rule("/v1/moves/<key>/astray", endpoint=self._astray, methods=["GET"]),
                Rule("/v1/moves/<key>/<verb>", endpoint=self._go_on, methods=["POST"]),
                Rule("/v1/forget", endpoint=self._forget, methods=["POST"]),
            ]
        )

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        request.max_content_length = MAX_REQUEST_BYTES
        try:
            response = self._answer(request)
        except Unknown as error:
            response = as_answer({"error": str(error)}, 404)
        except RequestRefused as error:
            response = as_answer({"error": str(error)}, 409)
        except ValidationError as error:
            response = as_answer({"error": _first_complaint(error)}, 400)
        except (ValueError, OverflowError) as error:
            response = as_answer({"error": str(error)}, 400)
        except KeyError as error:
            response = as_answer({"error": f"no {error} here, or it is not connected"}, 404)
        except TimeoutError as error:
            response = as_answer({"error": str(error)}, 504)
        except HTTPException as error:
            response = as_answer({"error": error.description or error.name}, error.code or 500)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        presented = request.headers.get("Authorization", "")
        expected = f"Bearer {self._nva.settings.token}"
        if not hmac.compare_digest(presented.encode(), expected.encode()):
            raise Unauthorized("send the token: Authorization: Bearer TOKEN")
        endpoint, values = self._routes.bind_to_environ(request.environ).match()
        answer: Response = endpoint(request, **values)
        return answer

    # -- reading ---------------------------------------------------------------------------------

    def _health(self, request: Request) -> Response:
        desired = self._authority.desired
        connected = {nve: desired.is_connected(nve) for nve in desired}
        return as_answer({"framework": framework.version(), "connected": connected})

    def _mapping(self, request: Request) -> Response:
        with self._nva.changed:
            bindings = sorted(self._authority.directory, key=lambda item: item.system)
            return as_answer(
                [
                    {
                        "vm": self._authority.known.name(item.system),
                        "vni": item.system.vni,
                        "mac": item.system.mac,
                        "addresses": sorted(map(str, item.addresses)),
                        "nve": item.nve,
                        "vtep": str(self._authority.desired.vteps[item.nve]),
                        "sequence": item.sequence,
                    }
                    for item in bindings
                ]
            )

    def _rules(self, request: Request, nve: str) -> Response:
        with self._nva.changed:
            rules = sorted(
                self._authority.desired.rules(nve),
                key=lambda rule: (rule.table, rule.order),
            )
        return as_answer(
            [
                {
                    "table": rule.table.name.lower(),
                    "priority": rule.priority,
                    "match": dict(rule.match),
                    "actions": [str(action) for action in rule.actions] or ["drop"],
                    "purpose": rule.purpose,
                    "idle_s": rule.idle_s,
                    "hard_s": rule.hard_s,
                    "reports_end": rule.reports_end,
                    "ovs": words(rule),
                    "cookie": f"{rule.cookie:016x}",
                }
                for rule in rules
            ]
        )

    def _counters(self, request: Request, nve: str) -> Response:
        return as_answer(
            [
                {
                    "table": rule.table.name.lower(),
                    "purpose": rule.purpose,
                    "about": self._authority.known.name(rule.about) if rule.about else None,
                    "match": dict(rule.match),
                    "packets": packets,
                    "bytes": octets,
                }
                for rule, packets, octets in self._nva.counts.by_rule(nve)
            ]
        )

    def _events(self, request: Request) -> Response:
        after = request.args.get("after", 0, type=int)
        return as_answer([as_json(record) for record in self._nva.trace.records[after:]])

    def _meters(self, request: Request, nve: str) -> Response:
        heard = self._authority.violations.heard
        return as_answer(
            [
                {
                    "port": metered(number)[0],
                    "dropped_as": metered(number)[1],
                    "packets": packets,
                    "dropped": dropped,
                    "heard": heard[nve, metered(number)[0]],
                }
                for number, packets, dropped in self._nva.counts.by_meter(nve)
            ]
        )

    def _refused(self, request: Request) -> Response:
        """Answer with one table of what the NVEs have dropped and what the NVA has refused."""
        by_nves = self._nva.counts.dropped()
        with self._nva.changed:
            refused = sorted(self._authority.counted.items(), key=str)
            by_nva = [(Reason(nve, port, None, what), n) for (nve, port, what), n in refused]
            return as_answer(
                [
                    {
                        **asdict(reason),
                        "vm": self._authority.name_at(reason),
                        "counted_by": counted_by,
                        "packets": packets,
                    }
                    for counted_by, rows in (("nve", by_nves), ("nva", by_nva))
                    for reason, packets in rows
                ]
            )

    # -- changing --------------------------------------------------------------------------------

    def _associate(self, request: Request) -> Response:
        """Associate a VM; with `timeout_s`, answer once the NVE has confirmed the rules of the VM's
        port.
        """
        body = AssociationBody.model_validate(body_of(request))
        timeout_s = timeout_s_of(request) if "timeout_s" in request.args else None
        wanted = body.interface()
        self._nva.decide(
            lambda now_ns: self._authority.associate(
                body.vm,
                wanted.system,
                wanted.addresses,
                body.nve,
                body.port,
                now_ns,
                mtu=wanted.mtu,
                vlan_tags=wanted.vlan_tags,
                claimable=wanted.claimable,
                routed=wanted.routed,
            )
        )
        if timeout_s is not None:
            self._await_confirmation(body.nve, timeout_s)
        return as_answer({"vm": body.vm, "nve": body.nve}, 201)

    def _await_confirmation(self, nve: str, timeout_s: float) -> None:
        """Wait until an NVE has confirmed all that it was told.  Raises TimeoutError."""
        with self._nva.changed:
            pending = partial(self._authority.desired.pending, [nve])
            if not self._nva.changed.wait_for(lambda: not pending(), timeout_s):
                raise TimeoutError(f"{nve} has not confirmed its rules after {timeout_s:g} s")

    def _dissociate(self, request: Request, nve: str, vm: str) -> Response:
        self._nva.decide(lambda now_ns: self._authority.de_associate(vm, nve, now_ns))
        return as_answer({"vm": vm, "nve": nve})

    # -- second instances ------------------------------------------------------------------------

    def _add_instance(self, request: Request, vm: str, nve: str) -> Response:
        """Answers once its NVE has confirmed its port's rules, and the others their entries."""
        body, timeout_s = InstanceBody.model_validate(body_of(request)), timeout_s_of(request)
        self._nva.decide(lambda now_ns: self._authority.add_instance(vm, nve, body.port, now_ns))
        self._await_all(timeout_s)
        return as_answer({"vm": vm, "nve": nve}, 201)

    def _fence_instance(self, request: Request, vm: str, nve: str) -> Response:
        """Answers once nothing of the instance is taken any more: its NVE has confirmed that, or is
        out of reach and its server dead; and once all others in reach send to the other one."""
        body, timeout_s = FenceBody.model_validate(body_of(request)), timeout_s_of(request)
        left = self._nva.decide(lambda now_ns: self._authority.fence_instance(vm, nve, now_ns))
        desired = self._authority.desired
        with self._nva.changed:
            if not self._nva.changed.wait_for(
                lambda: (
                    not desired.pending([nve])
                    or (body.server_dead and not desired.is_connected(nve))
                ),
                timeout_s,
            ):
                raise TimeoutError(
                    f"{nve} has not confirmed after {timeout_s:g} s that {vm} is fenced there; the "
                    "other instance must not go on alone"
                )
        self._await_all(timeout_s)
        return as_answer({"vm": vm, "fenced": nve, "left": left})

    def _await_all(self, timeout_s: float) -> None:
        """Returns when all NVEs in reach have confirmed what they were told."""
        for each in self._authority.desired:
            if self._authority.desired.is_connected(each):
                self._await_confirmation(each, timeout_s)

    # -- moves -----------------------------------------------------------------------------------

    def _route(self, request: Request, address: str) -> Response:
        """Route a host address to another VM; with `timeout_s`, answer once all NVEs have
        confirmed.
        """
        body, to = HostRouteBody.model_validate(body_of(request)), ip_address(address)
        timeout_s = timeout_s_of(request) if "timeout_s" in request.args else None
        before = self._nva.decide(lambda now_ns: self._authority.route(body.vm, to, now_ns))
        if timeout_s is not None:
            self._await_all(timeout_s)
        return as_answer({"address": address, "vm": body.vm, "before": before})

    def _moves(self, request: Request) -> Response:
        with self._nva.changed:
            self._nva.act()  # as in `_when_there`
            return as_answer([self._as_json(move) for move in self._authority.moves])

    def _request_move(self, request: Request, key: str) -> Response:
        asked = _MOVE_REQUEST.validate_python(body_of(request))
        key, awaited = move_key(key), _awaited(request)
        with self._nva.changed:
            known = len(self._authority.moves)
            move = self._nva.decide(lambda now_ns: self._authority.request_move(key, asked, now_ns))
            new = len(self._authority.moves) > known
        return self._when_there(awaited, move, 201 if new else 200)

    def _move(self, request: Request, key: str) -> Response:
        return self._when_there(_awaited(request), self._authority.move(key))

    def _astray(self, request: Request, key: str) -> Response:
        return as_answer({"packets": self._nva.counts.astray(self._authority.move(key))})

    def _go_on(self, request: Request, key: str, verb: str) -> Response:
        verbs: dict[str, Callable[[str, int], Move]] = {
            "redirect": self._authority.redirect,
            "activate": self._authority.activate,
            "roll-back": self._authority.roll_back,
        }
        if verb not in verbs:
            raise NotFound(f"a move can be told to {', '.join(verbs)}, not to {verb}")
        awaited = _awaited(request)
        move = self._nva.decide(lambda now_ns: verbs[verb](key, now_ns))
        return self._when_there(awaited, move)

    def _forget(self, request: Request) -> Response:
        self._nva.decide(self._authority.forget_entries)
        return as_answer({})

    def _when_there(
        self, awaited: tuple[Phase, float] | None, move: Move, status: int = 200
    ) -> Response:
        """Answer with the move, once it is in the awaited phase or past it."""
        if awaited:
            until, timeout_s = awaited
            order = list(Phase)
            deadline = time.monotonic() + timeout_s
            with self._nva.changed:
                while order.index(move.phase) < order.index(until) and move.phase not in FINISHED:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        raise TimeoutError(
                            f"move {move.key} is {move.phase}, not {until}, after {timeout_s:g} s"
                        )
                    self._nva.changed.wait(left_s)
                # Written down first: no caller is told a phase that a restarted NVA has forgotten.
                self._nva.act()
        with self._nva.changed:
            return as_answer(self._as_json(move), status)

    def _as_json(self, move: Move) -> dict[str, object]:
        return {
            "key": move.key,
            "vm": move.request.vm,
            "from": move.source,
            "to": move.destination,
            "phase": move.phase,
            "memory_mb": move.request.memory_mb,
            "disk_mb": move.request.disk_mb,
            "mode": move.request.mode,
            "in_flight": move.request.in_flight,
            "requested_ns": move.requested_ns,
            "network_nves": self._authority.network_nves(move),
        }


def _awaited(request: Request) -> tuple[Phase, float] | None:
    """Return what `until` and `timeout_s` ask for.  Raises BadRequest, before anything is
    changed.
    """
    if "until" not in request.args:
        return None
    until = request.args["until"]
    if until not in list(Phase):
        raise BadRequest(f"until is {until!r}; it has to be one of {', '.join(Phase)}")
    return Phase(until), timeout_s_of(request)


def _first_complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the body"
    return f"{place}: {first['msg']}"
