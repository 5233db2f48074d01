"""Wrong parameters of the commands behind the Makefile: exit code 2, one sentence, nothing written."""

import pytest

from experiments.speed import __main__ as speed
from experiments.studies import __main__ as studies
from experiments.studies import tables
from experiments.train import __main__ as training

COMMANDS = {
    "an unknown study": (studies, ["motion"], "there is no study 'motion': there are ablations"),
    "a study's model": (studies, ["fusion", "--model", "./none"], "none does not exist"),
    "an unknown table": (tables, ["films"], "there is no table 'films'"),
    "a table's model": (tables, ["interpolation", "--model", "./none"], "none does not exist"),
    "a table's cases": (tables, ["interpolation", "--cases", "kitti"], "'kitti' is no data set"),
    "an unknown part": (speed, ["speed"], "there is no part 'speed'"),
    "a part's model": (speed, ["--model", "./none"], "none does not exist"),
    "a stage": (training, ["--stage", "paint"], "argument --stage: invalid choice: 'paint'"),
    "a device": (training, ["--device", "gpu"], "argument --device: invalid choice: 'gpu'"),
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
