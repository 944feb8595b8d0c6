"""Who is served when: scenarios as tables. `+a` joins session a, `-a` ends a's oldest request."""

from __future__ import annotations

import pytest

from backends.worker.turns import Turns


def play(script: str) -> list[str]:
    """Run `script`, then serve everyone; the order in which requests were served, as a1, b1, a2, ..."""
    turns = Turns()
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    served: list[str] = []

    def serving() -> int | None:
        return next((ticket for ticket in names if turns.position(ticket) == 0), None)

    def finish() -> None:
        ticket = serving()
        assert ticket is not None
        served.append(names.pop(ticket))
        turns.leave(ticket)

    for step in script.split():
        if step.startswith("+"):
            session = step[1:]
            counts[session] = counts.get(session, 0) + 1
            names[turns.join(session)] = f"{session}{counts[session]}"
        elif step == "next":
            finish()
        else:
            ticket = next(ticket for ticket, name in names.items() if name == step[1:])
            del names[ticket]
            turns.leave(ticket)
    while names:
        finish()
    return served


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("+a", "a1", id="alone"),
        pytest.param("+a +b +c", "a1 b1 c1", id="first come, first served"),
        pytest.param("+a +a +b", "a1 b1 a2", id="a newcomer goes before somebody's second request"),
        pytest.param("+a +a +a +b +b", "a1 b1 a2 b2 a3", id="two busy sessions alternate"),
        pytest.param("+a +b next +a +c", "a1 b1 a2 c1", id="who was just served queues behind who waits"),
        pytest.param("+a +b -b1 +c", "a1 c1", id="who leaves the queue is skipped"),
        pytest.param("+a +b -a1", "b1", id="the one being served leaves"),
        pytest.param("+a next +a +b", "a1 a2 b1", id="an empty queue starts anew"),
        pytest.param("+a +a +b next +b", "a1 b1 a2 b2", id="the second round keeps its order"),
    ],
)
def test_order(script: str, expected: str) -> None:
    assert play(script) == expected.split()


def test_positions_count_down_to_the_turn() -> None:
    turns = Turns()
    first, second, third = (turns.join(name) for name in "abc")
    assert [turns.position(ticket) for ticket in (first, second, third)] == [0, 1, 2]
    turns.leave(first)
    assert [turns.position(ticket) for ticket in (second, third)] == [0, 1]
    assert turns.waiting == 1


def test_whose_turn_it_is_keeps_it_whoever_joins() -> None:
    turns = Turns()
    turns.leave(turns.join("a"))
    second = turns.join("a")
    turns.join("b")
    assert turns.position(second) == 0


def test_a_ticket_that_left_has_no_position_and_may_leave_again() -> None:
    turns = Turns()
    ticket = turns.join("a")
    turns.leave(ticket)
    turns.leave(ticket)
    assert not turns.busy
    with pytest.raises(KeyError):
        turns.position(ticket)


def test_a_sessions_requests_are_listed_in_serving_order() -> None:
    turns = Turns()
    first = turns.join("a")
    turns.join("b")
    second = turns.join("a")
    assert turns.tickets("a") == (first, second)
