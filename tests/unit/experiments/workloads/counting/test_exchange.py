"""What a client of a guest's service has met."""

from experiments.workloads.counting.exchange import Exchange, exchanges, rows


def test_a_counter_that_does_not_grow_has_gone_back() -> None:
    made = [
        Exchange(1_000_000, 1, 1, 3_000_000, 10),
        Exchange(5_000_000, 2, 2, 9_000_000, 12),
        Exchange(11_000_000, 3, 1, 12_000_000, 12),
        Exchange(13_000_000, 4, 1, 14_000_000, 11),
        Exchange(15_000_000, 5, 1, 16_000_000, 13),
    ]
    found = rows("vm2>vm1/service", made)
    assert [row[-1] for row in found] == [False, False, True, True, False]
    assert found[0] == (1_000_000, "vm2>vm1/service", 1, 1, 3_000_000, 2.0, 10, False)


def test_a_request_without_an_answer_is_told() -> None:
    noted = [
        *(Exchange(1, 1, 1), Exchange(1, 1, 2), Exchange(1, 1, 2, 9, 1)),
        *(Exchange(10, 2, 1), Exchange(10, 2, 2)),
    ]
    made = exchanges(each.line() for each in noted)
    assert made == [Exchange(1, 1, 2, 9, 1), Exchange(10, 2, 2)]
    assert rows("vm2>vm1/service", made)[1] == (
        *(10, "vm2>vm1/service", 2, 2),
        *(None, None, None, False),
    )


def test_a_line_that_was_cut_off_is_left_out() -> None:
    lines = [Exchange(1, 1, 1, 2, 1).line(), Exchange(3, 2, 1).line()[:-4]]
    assert exchanges(lines) == [Exchange(1, 1, 1, 2, 1)]
