"""Every benchmark runs: on tiny sizes, whose figures mean nothing, with the load generator that needs no Go."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main, measure
from benchmarks.bench import TINY
from benchmarks.figures import Failure, Figure, Pair, at_least, at_most, document, in_turn, shown
from benchmarks.generator import PROGRAM, made, read_frames


def test_every_benchmark_gives_its_figures() -> None:
    found = measure(TINY, list(BENCHMARKS), prefer_go=PROGRAM.exists(), say=lambda text: None)
    assert [one for one in found if isinstance(one, Failure)] == []
    figures = [one for one in found if isinstance(one, Figure)]
    assert len(figures) == 16
    assert all(figure.value > 0 for figure in figures), figures
    assert all(figure.said and figure.details for figure in figures)
    assert json.loads(document(found, {"sizes": "tiny"}))["figures"][0]["target"] == ">= 0.75"


def test_both_sides_are_measured_in_turn_after_a_round_that_is_not_counted() -> None:
    turns: list[str] = []

    def side(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    ours, theirs = in_turn(2, lambda: side("ours"), lambda: side("echo"))
    assert turns == ["ours", "echo"] * 3
    assert (ours, theirs) == ([3.0, 5.0], [4.0, 6.0])


def test_a_ratio_is_the_median_over_the_rounds_not_of_the_medians() -> None:
    assert Pair([50, 100, 10], [100, 100, 10]).ratio == 1.0


def test_a_target_is_met_on_its_own_side() -> None:
    ratio = Figure(name="calls", value=0.7512, unit="× echo", target=at_least(0.75))
    size = Figure(name="memory", value=11.0, unit="kB", target=at_most(10))
    assert (ratio.met, size.met) == (True, False)
    assert (shown(ratio), shown(size)) == ("0.75 × echo", "11 kB")


def test_requests_go_to_the_generator_as_they_are(tmp_path: Path) -> None:
    load = made(tmp_path, prefer_go=False)
    messages = [b"", b"one", bytes(300)]
    assert read_frames(load.requests(messages)) == messages
    assert "Python" in load.note


def test_a_benchmark_that_is_not_known_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "no benchmark 'speed'" in capsys.readouterr().err
