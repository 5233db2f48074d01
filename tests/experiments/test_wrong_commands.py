"""Wrong parameters of the commands behind the Makefile: exit code 2, one sentence, nothing written."""

from pathlib import Path

import pytest

from experiments.studies import __main__ as studies
from experiments.studies import tables
from experiments.train import __main__ as training
from notebooks import run

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "an unknown study": (studies, ["motion"], "there is no study 'motion': there are ablations"),
    "a study's model": (studies, ["fusion", "--model", "./none"], "none does not exist"),
    "workers": (studies, ["fusion", "--model", "./none", "--workers", "many"], "--workers: invalid int value: 'many'"),
    "an unknown table": (tables, ["films"], "films"),
    "a table's model": (tables, ["interpolation", "--model", "./none"], "none does not exist"),
    "a table's cases": (tables, ["interpolation", "--cases", "kitti"], "'kitti' is no data set"),
    "a stage": (training, ["--stage", "paint"], "argument --stage: invalid choice: 'paint'"),
    "a model": (training, ["--model", "audio"], "argument --model: invalid choice: 'audio'"),
    "a device": (training, ["--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
    "a recipe": (training, ["--vae-steps", "some"], "argument --vae-steps: invalid int value: 'some'"),
    "an unknown option": (training, ["--epochs", "3"], "unrecognized arguments: --epochs 3"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_wrong_parameter_is_one_sentence_and_exit_code_2(case, tmp_path, monkeypatch, capsys):
    program, arguments, says = COMMANDS[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        code = program.main(arguments)
    except SystemExit as stop:  # of argparse
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and says in error.splitlines()[-1] and "Traceback" not in error and not list(tmp_path.iterdir())


PARAMETERS = {  # of `make figures`, as the Makefile hands them on
    "name=value": ("colour", "parameter 'colour' must read name=value"),
    "an unknown one": ("colour=red", "unknown parameter 'colour': no notebook has it; there are"),
    "a pair's folder": ("pair=./none", "parameter pair: ./none does not exist"),
    "a pair's name": ("pair=motorbike", "motorbike is neither a folder nor a bundled pair"),
    "a type": ("frames=many", "parameter frames must be of type int like its default"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_a_wrong_parameter_of_make_figures_is_one_sentence_before_anything_is_made(case, tmp_path, monkeypatch, capsys):
    given, says = PARAMETERS[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "NOTEBOOKS", ROOT / "notebooks")
    assert run.main(["stamp", "-p", given]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
