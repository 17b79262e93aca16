"""What is said of packets while they flow is no more than one can know by then."""

import pytest

from experiments.probes.progress import ProbeProgress, SoFar

RATE = 100


class Talk:
    """A sender and a receiver of one flow that both tell once a second."""

    def __init__(self) -> None:
        self.progress = ProbeProgress(waiting_time_s=2.0)
        self.now_s = 0.0

    def second(self, sent: tuple[int, int], received: tuple[int, int] | None) -> SoFar:
        self.now_s += 1
        self.progress.sent("vm2", {"0": sent}, self.now_s)
        if received:
            self.progress.received("vm1", {"0": received}, self.now_s)
        said = self.progress.so_far(self.now_s + 0.1)
        assert said is not None
        return said


def test_nothing_is_said_before_anything_is_known() -> None:
    assert ProbeProgress(2.0).so_far(10.0) is None


def test_a_flow_that_loses_nothing() -> None:
    talk = Talk()
    said = [talk.second((RATE * n, 0), (RATE * n - 1, RATE * n - 2)) for n in range(1, 6)]

    assert [each.missing for each in said] == [0] * 5
    assert [each.packets_per_s for each in said[1:]] == [RATE] * 4


def test_a_gap_is_a_loss_once_the_sender_has_not_said_otherwise() -> None:
    talk = Talk()
    talk.second((100, 0), (100, 99))
    assert talk.second((200, 0), (190, 199)).missing == 0  # the sender may have skipped them
    assert talk.second((300, 0), (290, 299)).missing == 10
    assert talk.second((400, 0), (390, 399)).missing == 10


def test_what_a_paused_sender_skips_is_not_lost() -> None:
    talk = Talk()
    talk.second((100, 0), (100, 99))
    talk.second((200, 30), (170, 199))
    assert [talk.second((300, 30), (270, 299)).missing for _ in range(4)] == [0] * 4


def test_what_was_sent_into_the_void_is_lost_after_the_waiting_time() -> None:
    talk = Talk()
    talk.second((100, 0), (100, 99))
    said = [talk.second((100 * n, 0), None) for n in range(2, 7)]

    assert [each.missing for each in said] == [0, 0, 100, 200, 300]
    assert said[-1].packets_per_s == 0


def test_nothing_is_said_of_losses_where_the_sender_has_no_time_to_tell() -> None:
    progress = ProbeProgress(2.0)
    for at_s in (1, 2):
        progress.received("vm1", {"0": (10 * at_s, 10 * at_s)}, at_s)

    assert progress.so_far(2.1) == SoFar(10.0, None)


def test_flows_and_processes_are_added_up() -> None:
    progress = ProbeProgress(2.0)
    for at_s in (1, 2):
        progress.sent("vm2", {"0": (10 * at_s, 0), "1": (10 * at_s, 0)}, at_s)
        progress.received("vm1", {"0": (10 * at_s - 1, 10 * at_s - 1)}, at_s)
        progress.received("vm3", {"1": (10 * at_s - 2, 10 * at_s - 1)}, at_s)

    said = progress.so_far(2.1)
    assert said is not None
    assert said.packets_per_s == pytest.approx(20)
    assert said.missing == 1 + 2
