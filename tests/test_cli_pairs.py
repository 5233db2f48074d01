"""The commands about pairs: a score, a warning before a run, and what the shell completes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from interp_lib import load_image_model, load_pair, suitability
from interp_lib.cli import main
from interp_lib.images import to_pil

TINY = Path(__file__).parent / "conformance" / "dreammover" / "tiny_sd"
ON_TINY = ["--model", str(TINY), "--size", "64", "--steps", "4"]
QUICK = [*ON_TINY, "--inversion-steps", "2", "--frames", "1", "--no-lora"]


@pytest.fixture
def pairs(tmp_path):
    """Two folders: a pair in stark contrast, and one of which hardly anything changes."""
    for name, white in (("stark", 1.0), ("faint", 0.1)):
        (tmp_path / name).mkdir()
        for k, left in enumerate((8, 40)):
            image = torch.zeros(3, 64, 64)
            image[:, 16:48, left : left + 16] = white
            to_pil(image).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_the_command_prints_what_python_says(pairs, capsys):
    assert main(["suitability", str(pairs / "stark"), *ON_TINY]) == 0
    printed = capsys.readouterr().out
    pair = load_pair(pairs / "stark", size=64)
    found = suitability(load_image_model(TINY, device="cpu"), pair.image0, pair.image1, steps=4, progress=False)
    assert f"suitability {found.score:.2f}: likely to fail" in printed and f"{found.consistent:5.2f}  share" in printed
    assert all(f"against it: {reason}" in printed for reason in found.reasons) and found.reasons
    assert main(["suitability", str(pairs / "faint"), *ON_TINY, "--quiet"]) == 0
    assert 0.8 < float(capsys.readouterr().out) <= 1


def test_a_run_warns_before_it_starts_and_only_of_what_is_likely_to_fail(pairs, capsys):
    for name, options, warned in (
        ("stark", [], True),
        ("stark", ["--quiet"], False),
        ("stark", ["--flow", "zero"], False),
        ("faint", [], False),
    ):
        argv = ["interpolate", str(pairs / name), "-o", str(pairs / "out.gif"), *QUICK, *options]
        assert main(argv) == 0
        said = capsys.readouterr().err
        assert ("warning: the pair's suitability is 0." in said) == warned
        assert not warned or said.index("warning") < said.index("denoising")


def test_a_warning_changes_no_frame(pairs):
    for name, options in (("a.gif", []), ("b.gif", ["--quiet"])):
        assert main(["interpolate", str(pairs / "stark"), "-o", str(pairs / name), *QUICK, *options]) == 0
    assert (pairs / "a.gif").read_bytes() == (pairs / "b.gif").read_bytes()


@pytest.mark.parametrize("argv", [["none.png", "b.png"], ["a.png", "b.png", "c.png"], ["motorcycle", "--steps", "1"]])
def test_wrong_inputs_of_the_score_are_one_sentence(argv, capsys):
    assert main(["suitability", *argv]) == 2
    err = capsys.readouterr().err
    assert "error: " in err and err.count("\n") == 1


@pytest.mark.parametrize("command", ["interpolate", "inbetween"])
def test_the_numbers_of_a_model_can_be_chosen(command, pairs, capsys):
    assert main([command, str(pairs / "stark"), "-o", str(pairs / "out.gif"), "--dtype", "float8"]) == 2
    assert "float32" in capsys.readouterr().err
    if command == "interpolate":
        argv = ["interpolate", str(pairs / "stark"), "-o", str(pairs / "out.gif"), *QUICK, "--dtype", "bfloat16"]
        assert main(argv) == 0 and (pairs / "out.gif").is_file()


def test_without_its_package_completion_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)  # what Python itself keeps for a package that is barred
    assert main(["completion", "bash"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "pip install shtab" in err and err.count("\n") == 1


ASK = """source "$1"
COMP_WORDS=(interp_lib "${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="${COMP_WORDS[*]}"
$(complete -p interp_lib | sed -E 's/.*-F ([^ ]+).*/\\1/') interp_lib "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["in"], {"interpolate", "inbetween"}),
        (["interpolate", "--inversion-steps", "3", "--no-"], {"--no-lora", "--no-attention", "--no-two-level"}),
        (["interpolate", "--preset", ""], {"paper", "released"}),
    ],
)
def test_bash_completes_commands_options_and_choices(tmp_path, capsys, typed, offered):
    pytest.importorskip("shtab", reason="needs `pip install shtab`")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    done = subprocess.run(["bash", "-c", ASK, "bash", tmp_path / "script", *typed], capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


def test_help_imports_nothing_heavy():
    """What is typed first answers at once: nothing heavy is imported for it."""
    code = "import sys; from interp_lib.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
