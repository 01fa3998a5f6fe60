"""`debt-mgmt top`: what its board shows, what keys do, and a whole session in a terminal of its own."""

import io
import os
import pty
import select
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from debt_mgmt.client import MarginStatus, RiskLevel, Snapshot, TradingState, Update
from debt_mgmt.server.cli.top import keys_in
from debt_mgmt.server.cli.top_board import Act, TopBoard, Wish, around
from debt_mgmt.server.cli.watch import alert_line
from tests.server.cli.made import ALERT, MARK, status
from tests.server.cli.test_service import COMMAND, Service, asked, environment, run, start
from tests.server.journal.places import open_place

ACCOUNTS = (
    status("calm", "50000", "5000"),
    status("edge", "50000", "46000", RiskLevel.LIQUIDATING, trading_state=TradingState.REDUCING),
    status("warm", "50000", "36000", RiskLevel.WARNING),
    status("blind", None, None, RiskLevel.UNKNOWN, stale=True, stale_symbols=("BTCUSDT",)),
    status("high", "50000", "42500", RiskLevel.CRITICAL, trading_state=TradingState.HALTED),
)
BY_DANGER = ["edge", "high", "blind", "warm", "calm"]


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def board(*accounts: MarginStatus, clock: Clock | None = None) -> TopBoard:
    made = TopBoard("127.0.0.1:50051", clock or Clock())
    for one in accounts or ACCOUNTS:
        made.take(Snapshot(status=one))
    return made


def picture(shown: TopBoard, width: int = 120, height: int = 30) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(shown.render(width, height))
    return console.export_text()


def order(text: str) -> list[str]:
    places = {text.index(f" {name} "): name for name in BY_DANGER if f" {name} " in text}
    return [places[place] for place in sorted(places)]


def test_accounts_stand_in_the_order_of_their_danger_with_bars_states_and_ages() -> None:
    text = picture(board())
    assert order(text) == BY_DANGER
    for words in ("LIQUIDATING", "REDUCING", "HALTED", "92.0 %", "72.0 %", "data age", "h halt", "5 accounts"):
        assert words in text
    (edge,) = [line for line in text.splitlines() if " edge " in line]
    assert "▶" in edge and edge.count("╋") == 3, "a bar beyond 90 % covers the ticks at 70, 80 and 90"
    (calm,) = [line for line in text.splitlines() if " calm " in line]
    assert calm.count("┼") == 3


def test_a_narrow_terminal_shows_what_matters() -> None:
    lines = picture(board(), width=80).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert order("\n".join(lines)) == BY_DANGER


@pytest.mark.parametrize("width", [80, 90, 100, 109, 110, 119, 120, 200])
def test_an_account_takes_one_line_however_wide_the_terminal_is(width: int) -> None:
    lines = picture(board(), width=width).splitlines()
    first = next(number for number, line in enumerate(lines) if " edge " in line)
    shown = lines[first : first + len(ACCOUNTS)]
    assert [name for line, name in zip(shown, BY_DANGER, strict=True) if f" {name} " in line] == BY_DANGER
    assert "LIQUIDATING" in shown[0]


def test_ages_grow_while_nothing_is_heard() -> None:
    clock = Clock()
    shown = board(status("calm", marks=(replace(MARK, age=timedelta(seconds=1)),)), clock=clock)
    clock.seconds += 41
    assert "42 s" in picture(shown)
    shown.take(Update(conflated_count=0, status=status("calm", marks=(replace(MARK, age=timedelta(seconds=1)),))))
    assert "1.0 s" in picture(shown)


def test_a_halt_is_asked_for_twice() -> None:
    shown = board()
    assert shown.press("h") is None
    assert "halt edge?" in picture(shown)
    assert shown.press("n") is None and not shown.asking
    assert "was not halted" in picture(shown)
    assert shown.press("y") is None, "a yes without its question halts nothing"
    shown.press("h")
    assert shown.press("y") == Wish(Act.HALT, "edge")


def test_the_question_is_about_the_account_that_was_chosen_then() -> None:
    shown = board()
    shown.press("down")
    shown.press("h")
    shown.take(
        Update(
            conflated_count=0,
            status=replace(ACCOUNTS[0], level=RiskLevel.LIQUIDATING, margin_utilization=Decimal("0.99")),
        )
    )
    assert shown.press("y") == Wish(Act.HALT, "high")
    assert shown.current() == "high", "an account stays chosen while others overtake it"


def test_keys_choose_explain_and_quit() -> None:
    shown = board()
    for _ in range(9):
        shown.press("j")
    assert shown.press("e") == Wish(Act.EXPLAIN, "calm")
    shown.press("up")
    assert shown.current() == "warm"
    shown.explained = ["because"]
    assert "because" in picture(shown)
    shown.press("escape")
    assert "because" not in picture(shown)
    assert shown.press("q") == Wish(Act.QUIT)


def test_alerts_of_the_chosen_account_are_acknowledged_by_a_key_that_the_last_line_tells() -> None:
    shown = board()
    shown.press("down")
    assert shown.press("a") == Wish(Act.ACKNOWLEDGE, "high")
    assert "a acknowledge" in picture(shown, width=80).splitlines()[-1]
    shown.press("h")
    assert shown.press("a") is None, "it is no yes to a halt"


def test_an_empty_board_halts_explains_and_acknowledges_nothing() -> None:
    empty = TopBoard("nowhere")
    assert [empty.press(key) for key in ("h", "e", "a", "y", "down")] == [None] * 5
    assert "connecting" in picture(empty)


def test_many_accounts_and_alerts_fit_the_screen_and_the_chosen_one_is_among_them() -> None:
    many = [status(f"account-{number:03}", "50000", str(number * 10)) for number in range(300)]
    shown = board(*many)
    shown.recent.extend([alert_line(ALERT)] * 8)
    for _ in range(120):
        shown.press("down")
    text = picture(shown, height=24)
    assert len(text.rstrip().splitlines()) <= 24
    assert shown.current() in text and "not shown" in text
    shown.explained = ["because"] * 99
    assert "q quit" in picture(shown, height=24).splitlines()[-1], "however long an explanation is, the keys stay"
    assert around(many, "account-299", 5)[-1].account_id == "account-299"


def test_what_a_terminal_sends_is_told_apart() -> None:
    assert list(keys_in("h\x1b[A\x1b[Bq\x1b")) == ["h", "up", "down", "q", "escape"]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with open_place() as directory:
        running = start(directory, "--demo")
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.communicate(timeout=30)


def test_where_no_terminal_is_the_board_is_printed_once(service: Service) -> None:
    done = run(service, "top")
    assert done.returncode == 0 and "demo" in done.stdout and " age" in done.stdout
    assert [one["account_id"] for one in asked(service, "top")["accounts"]] == ["demo"]


def test_a_session_in_a_terminal_halts_explains_acknowledges_and_quits(service: Service) -> None:
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    before = termios.tcgetattr(theirs)
    variables = environment(DEBT_MGMT_TARGET=service.said["target"], TERM="xterm-256color")
    del variables["COLUMNS"]
    process = subprocess.Popen([*COMMAND, "top"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=variables)
    try:
        seen(ours, "1 account")
        os.write(ours, b"h")
        seen(ours, "halt demo?")
        os.write(ours, b"y")
        seen(ours, "demo is halted")
        assert asked(service, "status", "demo")["status"]["trading_state"] == "HALTED"
        os.write(ours, b"e")
        seen(ours, "debt-mgmt why")
        waiting = len(asked(service, "alerts", "list", "--account", "demo")["alerts"])
        assert waiting, "the halt has raised one"
        os.write(ours, b"a")
        seen(ours, "demo acknowledged")
        assert asked(service, "alerts", "list", "--account", "demo")["alerts"] == []
        os.write(ours, b"a")
        seen(ours, "no alert that waits")
        os.write(ours, b"q")
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            drained(ours)
        assert process.poll() == 0
        assert termios.tcgetattr(theirs)[3] == before[3], "the terminal is left as it was"
    finally:
        process.kill()
        process.communicate(timeout=30)
        os.close(ours)
        os.close(theirs)
    asked(service, "resume", "demo", "--reason", "seen")


def drained(descriptor: int) -> str:
    if not select.select([descriptor], [], [], 0.2)[0]:
        return ""
    return os.read(descriptor, 65536).decode(errors="replace")


def seen(descriptor: int, words: str, seconds: float = 30) -> None:
    """Wait until the screen has shown these words."""
    text, deadline = "", time.monotonic() + seconds
    while words not in text:
        assert time.monotonic() < deadline, f"{words!r} was never shown: {text[-2000:]!r}"
        text += drained(descriptor)
