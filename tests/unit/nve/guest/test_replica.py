"""Two instances that answer as one: whatever is lost, and whichever dies at whichever point.

`explore` walks through all that can happen to two instances and their clients, one input after the
other; `promise` judges each of the answers.  A message that was sent once may come at any time, and
any number of times, or never: so what is sent again makes no difference here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nve.guest.replica import (
    LONGEST,
    Action,
    Message,
    Propose,
    Replica,
    ReplicaDatagram,
    ReplicaRole,
    Store,
    Stored,
)
from nve.guest.service import ServiceReply, ServiceRequest
from tests.helpers.examples import some_of

TOKEN = b"of a run"
A, B = ServiceRequest(1, 1), ServiceRequest(2, 1)


@dataclass(frozen=True)
class World:
    """Leader and follower, what is on its way to each, and what clients were answered.

    `at` says at which instance each client asks now; `gone` answers nobody any more.
    """

    replicas: tuple[Replica, Replica]
    on_the_way: tuple[frozenset[Message], frozenset[Message]] = (frozenset(), frozenset())
    answers: tuple[ServiceReply, ...] = ()
    """In the order in which they were given."""
    floors: tuple[tuple[ServiceRequest, int], ...] = ()
    """The highest number that was answered before a request was first asked."""
    gone: int | None = None
    alone: bool = False
    runs_on: bool = False
    """The one that is `gone` does not know it, and goes on as if nothing were."""

    @property
    def key(self) -> object:
        states = tuple(
            (
                *(each.role, each.counter, each.stored),
                *(tuple(sorted(each.given.items())), each.waiting, each.unconfirmed),
            )
            for each in self.replicas
        )
        return (
            states,
            self.on_the_way,
            self.answers,
            self.floors,
            self.gone,
            self.alone,
            self.runs_on,
        )


def began() -> World:
    return World((Replica(ReplicaRole.LEADS), Replica(ReplicaRole.FOLLOWS)))


def with_replica(world: World, at: int, made: tuple[Replica, tuple[Action, ...]]) -> World:
    """An instance has taken an input.  What it says may be on its way for ever, or come twice."""
    replica, actions = made
    replicas = (replica, world.replicas[1]) if at == 0 else (world.replicas[0], replica)
    ways, answers = list(world.on_the_way), world.answers
    for action in actions:
        if isinstance(action, ServiceReply):
            answers = answers if action in answers else (*answers, action)
        else:
            ways[1 - at] |= {action}
    return replace(world, replicas=replicas, on_the_way=(ways[0], ways[1]), answers=answers)


def ask(world: World, at: int, request: ServiceRequest) -> World:
    floors = dict(world.floors)
    if request not in floors:
        floors[request] = max((each.counter for each in world.answers), default=0)
    world = replace(world, floors=tuple(sorted(floors.items(), key=str)))
    return with_replica(world, at, world.replicas[at].asked(request))


def may_ask(world: World, request: ServiceRequest) -> bool:
    """A client asks for one thing at a time."""
    answered = {(each.client, each.request) for each in world.answers}
    before = [(request.client, number) for number in range(1, request.request)]
    return answered.issuperset(before)


def hear(world: World, at: int, message: Message) -> World:
    return with_replica(world, at, world.replicas[at].heard(message))


def die(world: World, at: int) -> World:
    """What it has said may still come; nobody says anything to it."""
    here, there = world.on_the_way
    ways = (here, frozenset[Message]()) if at else (frozenset[Message](), there)
    return replace(world, gone=at, on_the_way=ways)


def cut_off(world: World, at: int) -> World:
    """It is taken for lost, but runs on, and what is on its way may come or not."""
    return replace(world, gone=at, runs_on=True)


def go_on_alone(world: World, at: int) -> World:
    return replace(with_replica(world, at, world.replicas[at].alone()), alone=True)


def steps(world: World, requests: tuple[ServiceRequest, ...]) -> Iterator[Callable[[], World]]:
    """All that may happen next.  A message that is lost is one that is never delivered."""
    left = [at for at in (0, 1) if at != world.gone]
    for at in (0, 1) if world.runs_on else left:
        for request in requests:
            if may_ask(world, request):
                yield partial(ask, world, at, request)
        for message in sorted(world.on_the_way[at], key=str):
            yield partial(hear, world, at, message)
    if world.gone is None:
        yield from (partial(die, world, at) for at in (0, 1))
        yield from (partial(cut_off, world, at) for at in (0, 1))
    elif not world.alone:
        yield partial(go_on_alone, world, *left)


def promise(world: World) -> None:
    """No number is given twice, a request has one number, and no number goes back."""
    numbers = [each.counter for each in world.answers]
    assert len(set(numbers)) == len(numbers), "a number was given twice"
    assert len({(each.client, each.request) for each in world.answers}) == len(numbers)
    floors = dict(world.floors)
    for each in world.answers:
        floor = floors[ServiceRequest(each.client, each.request)]
        assert each.counter > floor, "a number went back"
        for at, replica in enumerate(world.replicas):
            if at != world.gone:
                assert replica.counter >= each.counter, "an answered request was lost"
    for replica in world.replicas:
        assert replica.counter >= replica.stored


def explore(requests: tuple[ServiceRequest, ...], limit: int) -> tuple[int, set[int]]:
    """How many states there were, and how many answers there were in a state at most."""
    seen = {began().key}
    to_visit = [began()]
    answered = set()
    while to_visit:
        world = to_visit.pop()
        promise(world)
        answered.add(len(world.answers))
        for step in steps(world, requests):
            following = step()
            if following.key not in seen:
                assert len(seen) < limit, "the world is larger than was thought"
                seen.add(following.key)
                to_visit.append(following)
    return len(seen), answered


@pytest.mark.shows("R7.4")
@pytest.mark.parametrize(("requests", "at_least"), some_of([((A,), 50), ((A, B), 1_000)], every=2))
def test_whatever_happens_no_answered_request_is_lost_and_no_number_is_given_twice(
    requests: tuple[ServiceRequest, ...], at_least: int
) -> None:
    """All orders of all messages of clients' requests, with losses, doubles, and a death; or a
    partition, in which the other one goes on alone while this one runs."""
    states, answered = explore(requests, 100_000)

    assert states > at_least
    assert answered == set(range(len(requests) + 1))


def test_two_that_both_go_on_alone_give_a_number_twice() -> None:
    """What the one who tells them has to see to; and the judge would notice."""
    world = began()
    for at in (0, 1):
        world = with_replica(world, at, world.replicas[at].alone())
    world = ask(ask(world, 0, A), 1, B)

    with pytest.raises(AssertionError, match="twice"):
        promise(world)


@given(st.lists(st.integers(0, 10_000), max_size=60), st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_long_lives_keep_the_promise(chosen: list[int], dies: int) -> None:
    """Three clients with two requests each; afterwards whoever is left answers everybody."""
    world = began()
    requests = tuple(ServiceRequest(client, n) for client in range(3) for n in (1, 2))
    for number in chosen:
        possible = list(steps(world, requests))
        world = possible[number % len(possible)]()
        promise(world)
    if world.gone is None:
        world = die(world, dies)
    left = 1 - (world.gone or 0)
    if not world.alone:
        world = go_on_alone(world, left)
    for request in requests:
        world = ask(world, left, request)
        promise(world)
    answered = {(each.client, each.request) for each in world.answers}
    assert answered == {(each.client, each.request) for each in requests}


@pytest.mark.shows("R7.4")
def test_each_answers_after_one_round_trip() -> None:
    leader, follower = began().replicas
    leader, said = leader.asked(A)
    assert said == (Store(1, A),), "not before the follower has it"
    follower, said = follower.heard(Store(1, A))
    assert said == (Stored(1),)
    leader, said = leader.heard(Stored(1))
    assert said == (ServiceReply(1, 1, 1),)

    follower, said = follower.asked(B)
    assert said == (Propose(B),)
    leader, said = leader.heard(Propose(B))
    assert said == (Store(2, B),)
    follower, said = follower.heard(Store(2, B))
    assert said == (Stored(2), ServiceReply(2, 1, 2))


def test_what_was_lost_is_sent_again() -> None:
    leader, follower = began().replicas
    leader, _ = leader.asked(A)
    follower, _ = follower.asked(B)

    assert leader.again() == (Store(1, A),)
    assert follower.again() == (Propose(B),)
    leader, _ = leader.heard(Propose(B))
    _, said = follower.heard(Store(2, B))
    assert said == (Stored(0),), "the first has to come before"
    assert leader.heard(Propose(B))[1] == (Store(2, B),), "a proposal that comes twice"
    assert leader.alone()[0].again() == ()


def test_what_a_client_has_asked_before_is_answered_alike_or_not_at_all() -> None:
    alone, _ = Replica(ReplicaRole.FOLLOWS).alone()
    alone, first = alone.asked(A)
    assert alone.asked(A) == (alone, first)
    alone, _ = alone.asked(ServiceRequest(1, 2))
    assert alone.asked(A) == (alone, ()), "it has gone on"


def test_one_that_is_alone_takes_nothing_from_the_other() -> None:
    alone, _ = Replica(ReplicaRole.FOLLOWS).alone()
    for message in (Propose(A), Store(1, A), Stored(1)):
        assert alone.heard(message) == (alone, ())


@pytest.mark.parametrize("message", [None, Propose(A), Store(7, B), Stored(9)])
def test_datagrams_are_read_as_they_were_written(message: Message | None) -> None:
    datagram = ReplicaDatagram(TOKEN, message, 5, 6)
    octets = datagram.octets()

    assert len(octets) == LONGEST
    assert ReplicaDatagram.of(octets, TOKEN) == datagram


def test_datagrams_of_strangers_are_none() -> None:
    octets = ReplicaDatagram(TOKEN, Stored(9)).octets()

    assert ReplicaDatagram.of(octets, b"another.") is None
    assert ReplicaDatagram.of(octets[:-1], TOKEN) is None
    assert ReplicaDatagram.of(b"x" + octets[1:], TOKEN) is None
    assert ReplicaDatagram.of(octets[:12] + b"\x09" + octets[13:], TOKEN) is None
