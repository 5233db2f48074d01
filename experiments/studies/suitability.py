"""The suitability of held-out pairs: of those that the benchmark interpolates, and of others."""

from experiments.studies import study
from interp_lib.bench.datasets import load_case
from interp_lib.dreammover import suitability as score
from interp_lib.models.image_model import ImageModel

WINDOWS = {"bunny": (0, 28, 55, 83), "carphone": (0, 36, 71), "bikes": (82, 137, 190)}
CLIPS = [f"clip:{clip}:{first}" for clip, starts in WINDOWS.items() for first in starts]  # all of clip-bench
GROUPS = {
    "judged": [f"world:{seed}" for seed in range(50)],
    "limits": [f"world:{seed}" for seed in range(100, 140)],
    "clips": CLIPS,
}
QUANTITIES = ("score", "change", "residue", "consistent", "smooth", "covered", "displacement")


@study("image", [{"group": name, "case": case} for name, cases in GROUPS.items() for case in cases])
def suitability(model: ImageModel, *, group: str, case: str) -> list[dict]:
    """What `suitability` says of a pair before it is interpolated: its score and the quantities behind it.

    group: "judged", the pairs of world-bench on which the benchmark interpolates, and "clips", the windows of
    clip-bench, likewise: on them the score is held against the quality that was measured, see
    `experiments.studies.suitability_correlation`; "limits", other held-out world pairs, on which the parts of the score
    were chosen. Features of 50 steps, at 128 px, without a LoRA or a prompt.
    """
    pair = load_case(case, frames=3, size=128).pair  # those of the benchmark's tables
    found = score.suitability(model, pair.image0, pair.image1, progress=False)
    return [{name: getattr(found, name) for name in QUANTITIES}]
