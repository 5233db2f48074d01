"""The overview: how many wrong inputs there are, that no public name is without one, and that the harness can fail."""

import pytest
import torch

import interp_lib
from interp_lib import as_images, interpolate, spectrum
from tests.robustness import test_wrong_commands as commands
from tests.robustness import test_wrong_images as images
from tests.robustness import test_wrong_methods as methods
from tests.robustness import test_wrong_models as models
from tests.robustness import test_wrong_numbers as numbers
from tests.robustness import test_wrong_outputs as outputs
from tests.robustness.harness import Refused, Row, refuse, shell

TABLES = [commands.ROWS, images.ROWS, methods.ROWS, models.ROWS, numbers.ROWS, outputs.ROWS]
ROWS = [row for table in TABLES for row in table] + [row for row, _ in models.IN_FOLDERS]
COMMANDS = {"interp_lib interpolate", "interp_lib inbetween", "interp_lib fit-backward", "show.run", "make figures"}
COMMANDS |= {"make results", "make bench-tables", "make models"}
NOTHING_TO_GET_WRONG = {
    *("Interpolation", "Pair", "Inversion", "Clip", "Suitability"),  # records that the library makes
    *("ImageModel", "VideoModel"),  # likewise
    *("METHODS", "available_pairs", "figure_style"),  # take no argument
    *("net_displacement", "direction_accuracy", "back_and_forth"),  # take what actor_track gives
    *("world_ground", "as_text", "select"),  # take what the world, `summarise` and `load_table` give
}


def test_there_are_enough_rows_and_no_two_are_the_same():
    names = [row.about for row in ROWS]
    assert len(names) >= 250
    assert sorted(names) == sorted(set(names))


def test_every_public_name_and_every_command_has_a_row():
    asked = {row.name for row in ROWS}
    assert set(interp_lib.__all__) - NOTHING_TO_GET_WRONG - asked == set()
    assert NOTHING_TO_GET_WRONG <= set(interp_lib.__all__) and not NOTHING_TO_GET_WRONG & asked
    assert COMMANDS - asked == set()


def fails(ground, call, says=".", kind=ValueError):
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        refuse(Row("control: nothing", call, says, kind), ground)
    return str(caught.value)


def raising(sentence, kind=ValueError):
    def call(ground):
        raise kind(sentence)

    return call


GOOD = "x=3 is out of range: give a number below 3."


def test_the_harness_fails_where_nothing_is_refused(ground):
    """The negative control: a right input goes through the same harness."""
    assert "DID NOT RAISE" in fails(ground, lambda g: as_images(g.first))
    assert "DID NOT RAISE" in fails(ground, lambda g: spectrum(torch.zeros(3, 3)))
    assert "DID NOT RAISE" in fails(ground, lambda g: shell(lambda argv: 0, "pairs"), kind=Refused)


def test_the_harness_fails_at_every_fault_of_an_answer(ground):
    def chained(g):
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            raise ValueError(GOOD)  # noqa: B904

    def littering(g):
        (g.out / "half.mp4").touch()
        raise ValueError(GOOD)

    def late(g):
        interpolate(g.image, g.first, g.last, frames=1, steps=2, inversion_steps=1, lora=False, progress=False)

    refuse(Row("control: a good answer", raising(GOOD), "give a number"), ground)
    assert "TypeError" in fails(ground, raising(GOOD, TypeError))
    assert "said" in fails(ground, raising(GOOD), says="another sentence")
    assert fails(ground, raising("x=3 is out of range:\ngive a number below 3."))
    assert fails(ground, raising("wrong"))
    assert "second traceback" in fails(ground, chained)
    assert "left something behind" in fails(ground, littering)
    assert "DID NOT RAISE" in fails(ground, late)
    assert "ran before the answer" in fails(ground, lambda g: (late(g), raising(GOOD)(g)))
    assert "exit code 1" in fails(ground, lambda g: shell(lambda argv: 1, "pairs"), kind=Refused)
