"""On-boarding over the northbound interface (R8.2): requests about `/v1/vms` and `/v1/capacity`.

`controller.northbound.api` has their list; `controller.core.onboarding` says what they mean.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, TypeAdapter
from werkzeug import Request, Response
from werkzeug.routing import Rule

from controller.core.onboarding import (
    USUAL_LEASE_S,
    Onboarding,
    OnboardingPhase,
    OnboardingRequest,
)
from controller.core.refusals import Unknown
from controller.northbound.bodies import (
    Body,
    InterfaceBody,
    VmName,
    as_answer,
    body_of,
    timeout_s_of,
)
from controller.nva import Nva
from nve.resources import Resources, named

_VM_NAME: Final = TypeAdapter(VmName)
NamedResources = Annotated[Resources, BeforeValidator(named)]


class OnboardingBody(Body):
    """The body of PUT /v1/vms/VM."""

    interface: InterfaceBody
    resources: NamedResources
    nve: str | None = None
    lease_s: float = Field(USUAL_LEASE_S, gt=0, le=3600)


class ConfirmationBody(Body):
    """The body of POST /v1/vms/VM/confirm: the offer's number, and the VM's port."""

    offer: int
    port: int


class AdjustmentBody(Body):
    """The body of POST /v1/vms/VM/adjust."""

    resources: NamedResources


class StandbyBody(Body):
    """The body of PUT /v1/vms/VM/standby: where room is kept for it, and how much."""

    nve: str
    resources: NamedResources


class OnboardingRoutes:
    """Handles the requests about on-boarding.

    `await_confirmation(nve, timeout_s)` waits until an NVE has confirmed what it was told.
    """

    def __init__(self, nva: Nva, await_confirmation: Callable[[str, float], None]) -> None:
        self._nva = nva
        self._authority = nva.authority
        self._await_confirmation = await_confirmation

    def routes(self) -> list[Rule]:
        return [
            Rule("/v1/vms", endpoint=self._vms, methods=["GET"]),
            Rule("/v1/vms/<vm>", endpoint=self._vm, methods=["GET"]),
            Rule("/v1/vms/<vm>", endpoint=self._offer, methods=["PUT"]),
            Rule("/v1/vms/<vm>", endpoint=self._off_board, methods=["DELETE"]),
            Rule("/v1/vms/<vm>/confirm", endpoint=self._confirm, methods=["POST"]),
            Rule("/v1/vms/<vm>/adjust", endpoint=self._adjust, methods=["POST"]),
            Rule("/v1/vms/<vm>/standby", endpoint=self._keep_room, methods=["PUT"]),
            Rule("/v1/vms/<vm>/standby", endpoint=self._give_room_up, methods=["DELETE"]),
            Rule("/v1/capacity", endpoint=self._capacity, methods=["GET"]),
        ]

    def _vms(self, request: Request) -> Response:
        with self._nva.changed:
            return as_answer(
                [self._onboarding_as_json(each) for each in self._authority.onboardings]
            )

    def _vm(self, request: Request, vm: str) -> Response:
        with self._nva.changed:
            return as_answer(self._onboarding_as_json(self._onboarding(vm)))

    def _onboarding(self, vm: str) -> Onboarding:
        known = {each.vm: each for each in self._authority.onboardings}
        if vm not in known:
            raise Unknown(f"nobody has asked for {vm!r}; PUT /v1/vms/{vm} does")
        return known[vm]

    def _offer(self, request: Request, vm: str) -> Response:
        body = OnboardingBody.model_validate(body_of(request))
        vm = _VM_NAME.validate_python(vm)
        wanted = OnboardingRequest(
            body.interface.interface(), body.resources, body.nve, body.lease_s
        )
        with self._nva.changed:
            known = self._authority.onboardings
            made = self._nva.decide(lambda now_ns: self._authority.offer(vm, wanted, now_ns))
            answer = {
                **self._onboarding_as_json(made),
                "available": {
                    nve: asdict(self._authority.admission.free(nve, but=vm))
                    for nve in self._authority.desired
                    if self._authority.desired.is_connected(nve)
                },
            }
        return as_answer(answer, 200 if made in known else 201)

    def _confirm(self, request: Request, vm: str) -> Response:
        """Confirm an offer; with `timeout_s`, answer once the NVE has confirmed the rules of the
        VM's port.
        """
        body = ConfirmationBody.model_validate(body_of(request))
        timeout_s = timeout_s_of(request) if "timeout_s" in request.args else None
        known = self._nva.decide(
            lambda now_ns: self._authority.confirm_offer(vm, body.offer, body.port, now_ns)
        )
        if timeout_s is not None:
            self._await_confirmation(known.nve, timeout_s)
        with self._nva.changed:
            return as_answer(self._onboarding_as_json(known))

    def _adjust(self, request: Request, vm: str) -> Response:
        wanted = AdjustmentBody.model_validate(body_of(request)).resources
        known = self._nva.decide(lambda now_ns: self._authority.adjust(vm, wanted, now_ns))
        with self._nva.changed:
            return as_answer(self._onboarding_as_json(known))

    def _keep_room(self, request: Request, vm: str) -> Response:
        body = StandbyBody.model_validate(body_of(request))
        known = self._nva.decide(
            lambda now_ns: self._authority.keep_room_for_standby(
                vm, body.nve, body.resources, now_ns
            )
        )
        with self._nva.changed:
            return as_answer(self._onboarding_as_json(known))

    def _give_room_up(self, request: Request, vm: str) -> Response:
        known = self._nva.decide(lambda now_ns: self._authority.give_up_standby(vm, now_ns))
        with self._nva.changed:
            return as_answer(self._onboarding_as_json(known))

    def _off_board(self, request: Request, vm: str) -> Response:
        self._nva.decide(lambda now_ns: self._authority.off_board(vm, now_ns))
        return as_answer({"vm": vm})

    def _onboarding_as_json(self, known: Onboarding) -> dict[str, object]:
        places = self._authority.admission.places(known.request.interface.system)
        in_use = known.phase is OnboardingPhase.IN_USE
        return {
            "vm": known.vm,
            "offer": known.offer,
            "phase": known.phase,
            "nves": sorted(places) if in_use else [known.nve],
            "resources": asdict(known.resources),
            "lease_s": known.request.lease_s,
            "standby": known.standby or None,
        }

    def _capacity(self, request: Request) -> Response:
        admission = self._authority.admission
        with self._nva.changed:
            return as_answer(
                [
                    {
                        "nve": nve,
                        "capacity": asdict(admission.capacity(nve)),
                        "free": asdict(admission.free(nve)),
                        "taken": [
                            {"vm": vm, "standby": is_standby, **asdict(takes)}
                            for is_standby, takers in (
                                (False, admission.vms(nve)),
                                (True, admission.standbys(nve)),
                            )
                            for vm, takes in takers
                        ],
                    }
                    for nve in self._authority.desired
                ]
            )
