"""`kill -9` at random moments: nothing torn, nothing lost, nothing left behind, and the bits of an unbroken run."""

import pytest

from tests.robustness import programs
from tests.robustness.kills import Program, survive

EVERYONE = ("group", "leader", "below")
FIGURES = {"began": "build/*.figures", "renames": 5, "targets": EVERYONE}
PROGRAMS = {
    "one notebook": Program(programs.one_notebook, **FIGURES),
    "make figures": Program(programs.three_notebooks, **FIGURES),
    "LoRA": Program(programs.lora, "*.safetensors", 2, kept="*.safetensors"),
    "backward motion": Program(programs.backward_motion, "*.checkpoint", 13),
    "training": Program(programs.train, "work/*", 20, kept="work/frames/*/*.pt", appears="models/image/"),
    "benchmark": Program(programs.bench, "out/items/*", 20, kept="out/items/*"),
    "two workers": Program(
        programs.networks_by_two,
        "out/items/*",
        12,
        kept="out/items/*",
        unbroken=programs.networks,
        targets=EVERYONE,
    ),
    "study": Program(programs.study, "work/*/*", 3, kept="work/*/*", targets=EVERYONE),
    "saving": Program(programs.save, "*", 24),
}
FEW = {  # kills, seed
    "one notebook": (1, 5),
    "backward motion": (2, 0),
    "two workers": (1, 0),  # the leader alone is killed: its workers must not live on
    "saving": (2, 1),
}
ALL = {"make figures": 16, "LoRA": 6, "backward motion": 12, "training": 12, "benchmark": 10, "two workers": 10}
ALL |= {"study": 6, "saving": 12}


@pytest.mark.long
@pytest.mark.parametrize("name", FEW)
def test_a_few_kills(name, tmp_path):
    kills, seed = FEW[name]
    assert survive(PROGRAMS[name], tmp_path, kills=kills, seed=seed).total() == kills


@pytest.mark.slow  # about half an hour on one core
@pytest.mark.parametrize("name", ALL)
def test_many_kills(name, tmp_path):
    moments = survive(PROGRAMS[name], tmp_path, kills=ALL[name], seed=0)
    assert moments.total() == ALL[name] and moments["working"] + moments["writing"] >= ALL[name] // 2
    print(f"\n{name}: {moments.total()} kills, {dict(moments)}")
