"""What perf/ decides by itself: which rounds it measures again."""

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest

# Under another name: these tests have a package `harness` too.
FOLDER = Path(__file__).parents[2] / "perf" / "harness"
SPEC = importlib.util.spec_from_file_location(
    "perf_harness", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
sys.modules["perf_harness"] = importlib.util.module_from_spec(SPEC)
bench = importlib.import_module("perf_harness.bench")


class Clock:
    """A second for each attempt."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


def a_bench(monkeypatch, stolen, patience):
    """A bench whose attempts find the host taking these shares of each core, one after the other."""
    made = bench.Bench.__new__(bench.Bench)
    made.begin(patience)
    made.progress = lambda text: None
    clock, taken, shares = Clock(), [0.0, 0.0], iter(stolen)
    monkeypatch.setattr(bench.time, "monotonic", clock.monotonic)
    made.stolen_ns = lambda: list(taken)
    made.attempts = itertools.count(1)

    def attempt():
        clock.now += 1.0
        for core, share in enumerate(next(shares)):
            taken[core] += share * 1e9
        return next(made.attempts)

    return made, attempt


def test_a_disturbed_round_is_measured_again(monkeypatch):
    made, attempt = a_bench(monkeypatch, [(0.3, 0.0), (0.0, 0.021), (0.02, 0.02)], patience=60)
    assert made.undisturbed(attempt, 0.02) == 3
    assert (made.repeated, made.stolen, made.patience) == (2, 0, 58)
    assert made.is_trustworthy()
    assert "2.0 % in the worst; 2 rounds were repeated" in made.notes()[-1]


def test_patience_ends(monkeypatch):
    made, attempt = a_bench(monkeypatch, [(0.3, 0.0)] * 4, patience=1.5)
    assert made.undisturbed(attempt, 0.02) == 3
    assert (made.repeated, made.stolen) == (2, 1)
    assert made.undisturbed(attempt, 0.02) == 4
    assert not made.is_trustworthy()


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_what_counts_all_of_its_requests_is_never_repeated(monkeypatch, share):
    made, attempt = a_bench(monkeypatch, [(share, share)], patience=60)
    assert made.undisturbed(attempt, None) == 1
    assert made.repeated == made.stolen == 0
