"""What long work says: a bar on a terminal, and elsewhere whole lines in a steady rhythm."""

import re
import threading
import time

import jax
import pytest
from jax import lax

from experiments import progress
from tests.experiments.logs import Log

LINE = re.compile(
    r"(?P<title>[^:]+): ((?P<done>[\d,]+) of (?P<total>[\d,]+) (?P<unit>[a-z ]+), )?(?P<passed>\d+:\d\d:\d\d)"
)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, as a test sets it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_where_there_is_no_terminal_a_line_tells_at_once_in_a_rhythm_and_at_the_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    log, long = Log(), "a-name-that-is-much-longer-than-a-line-of-eighty-columns/" * 5
    with progress.Display("sleeping", total=1234, unit="things", finished=2, interval=0.01, on=log.console) as display:
        assert log.lines[0] == "sleeping: 2 of 1,234 things, 0:00:00"
        display.doing(long)
        log.wait(long, times=3)  # nothing is reported meanwhile: that is the thread's own doing
        display.advance()
        log.wait("sleeping: 3 of 1,234 things")
        display.say(f"[bold]{long} :owl: 12%")
    count = len(log.lines)
    assert f"[bold]{long} :owl: 12%" in log.lines  # as it is, on one line
    told = [line for line in log.lines if not line.startswith("[")]
    for line in told:
        found = LINE.match(line)
        assert found and found["title"] == "sleeping" and found["total"] == "1,234" and found["done"] in "23", line
    assert re.fullmatch(r"sleeping: 3 of 1,234 things, \d:\d\d:\d\d; done", told[-1])
    assert "\x1b" not in log.text  # no colours
    time.sleep(0.05)
    assert len(log.lines) == count and not [one for one in threading.enumerate() if one.name == "heartbeat"]


def test_a_line_does_not_wait_for_the_rhythm():
    log = Log()
    with progress.Display("quick", total=1, unit="things", interval=1e6, on=log.console) as display:
        assert len(log.lines) == 1
        display.say("one thing")
        display.advance()
        assert len(log.lines) == 2
    assert len(log.lines) == 3


def test_the_rhythm_holds_while_a_compiled_program_runs():
    """It holds no lock of Python's."""
    log = Log()
    program = jax.jit(lambda n: lax.fori_loop(0, n, lambda _, x: x * 1.0000001 + 1e-9, 1.0))
    jax.block_until_ready(program(1))
    with progress.Display("running", interval=0.01, on=log.console):
        for _ in range(100):
            before = len(log.lines)
            jax.block_until_ready(program(30_000_000))
            if len(log.lines) >= before + 3:
                return
    raise AssertionError("the thread was silent while the program ran")


def test_on_a_terminal_there_is_a_bar_and_no_line():
    log = Log(force_terminal=True, width=120)
    with progress.Display("figure 10", total=4, unit="epochs", interval=0.01, on=log.console) as display:
        display.doing("member 3")
        display.say("member 2: .55")
        display.advance(3)
        time.sleep(0.2)
    plain = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", log.text)
    assert "━" in plain and "3 of 4 epochs" in plain
    assert "member 2: .55" in plain.replace("\r", "\n").splitlines()  # above the bar
    assert "figure 10: " not in plain


def test_an_invisible_display_says_nothing():
    log = Log()
    with progress.Display("quiet", total=1, visible=False, interval=0.001, on=log.console) as display:
        display.say("nothing")
        display.advance()
        time.sleep(0.02)
    assert not log.text


def test_what_fails_is_not_called_done():
    log = Log()
    with pytest.raises(RuntimeError), progress.Display("failing", total=2, unit="parts", on=log.console):
        raise RuntimeError
    assert re.fullmatch(r"failing: 0 of 2 parts, \d:\d\d:\d\d; stopped", log.lines[-1])


def test_what_is_left_is_estimated_before_and_from_what_has_passed(clock):
    """Four things of unequal work, 1 + 2 + 3 + 4, which are slower than they were thought to be."""
    display = progress.Display("work", total=4, unit="things", seconds=100.0, work=10.0, visible=False)
    with display:
        assert display.status() == "0 of 4 things, 0:00:00, about 2 min left"
        clock[0] += 40
        assert display.status() == "0 of 4 things, 0:00:40, about 60 s left"
        clock[0] += 70
        assert display.status() == "0 of 4 things, 0:01:50"  # the estimate has run out: nothing is promised
        clock[0] += 10
        display.advance(work=1.0)
        assert display.status() == "1 of 4 things, 0:02:00, about 18 min left"  # 120 s a unit of work, nine are left
        clock[0] += 60
        assert display.status() == "1 of 4 things, 0:03:00, about 17 min left"
        display.advance(3, work=9.0)
        assert display.status() == "4 of 4 things, 0:03:00"


def test_work_that_an_earlier_run_did_is_not_counted_as_fast(clock):
    with progress.Display("work", total=10, unit="things", finished=8, visible=False) as display:
        assert display.status() == "8 of 10 things, 0:00:00"
        clock[0] += 50
        display.advance()
        assert display.status() == "9 of 10 things, 0:00:50, about 50 s left"


def test_the_next_student_takes_its_own_time_and_not_that_of_the_one_before(clock):
    with progress.Display("work", visible=False) as display:
        display.doing("training", total=6, unit="steps")
        clock[0] += 600
        display.doing("training", done=6, total=6, unit="steps")
        display.doing("training", done=1, total=6, unit="steps")
        clock[0] += 40
        display.doing("training", done=2, total=6, unit="steps")
        assert display.status() == "0:10:40; training, 2 of 6 steps, about 80 s left of it"
        clock[0] += 20
        display.doing("training", done=2, total=6, unit="steps")  # said twice is no new beginning
        assert display.status() == "0:11:00; training, 2 of 6 steps, about 2 min left of it"


def test_those_who_work_side_by_side_are_told_each_with_its_own_rest(clock):
    with progress.Display("work", total=9, unit="units", visible=False) as display:
        display.doing("drawing", "first")
        display.doing("training", "second", done=1, total=6, unit="steps")
        clock[0] += 30
        display.doing("drawing", "first", done=10_000, total=30_000, unit="completions")
        assert display.status() == (
            "0 of 9 units, 0:00:30; second, training, 1 of 6 steps, about 2 min left of it; "
            "first, drawing, 10,000 of 30,000 completions, about 60 s left of it"
        )
        display.doing("", "second")
        display.doing("scoring", "first")
        assert display.status() == "0 of 9 units, 0:00:30; first, scoring"


def test_work_that_cannot_be_asked_says_for_how_long_it_has_run_and_about_how_long_it_takes(clock):
    with progress.Display("work", total=9, unit="units", visible=False) as display:
        display.doing("members 0 to 1, student", seconds=75.0)
        clock[0] += 30
        assert display.status() == "0 of 9 units, 0:00:30; members 0 to 1, student, 30 s of about 75 s"
        display.doing("members 2 to 3, teacher")
        assert display.status() == "0 of 9 units, 0:00:30; members 2 to 3, teacher"


def test_nothing_is_silent_for_longer_than_half_a_minute():
    assert progress.INTERVAL <= 30
    assert progress.Display("work", visible=False)._interval == progress.INTERVAL


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (45.4, "45 s"), (90, "2 min"), (700, "12 min"), (9000, "2.5 h"), (260_000, "3.0 days")],
)
def test_durations_are_for_readers(seconds, text):
    assert progress.duration(seconds) == text


def test_many_threads_lose_nothing():
    log = Log()
    with progress.Display("busy", total=800, unit="things", interval=0.001, on=log.console) as display:

        def work(who: str) -> None:
            for index in range(100):
                display.doing("counting", who, done=index, total=100, unit="x")
                display.advance()
                display.say(f"{who} {index} is done")

        threads = [threading.Thread(target=work, args=(f"worker {number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    said = [line for line in log.lines if line.startswith("worker")]
    assert sorted(said) == sorted(f"worker {n} {index} is done" for n in range(8) for index in range(100))
    assert log.lines[-1].startswith("busy: 800 of 800 things")
    assert all(LINE.match(line) for line in log.lines if not line.startswith("worker"))
