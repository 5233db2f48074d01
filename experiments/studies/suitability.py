"""What `suitability` says of a pair before it is interpolated: its score and the quantities behind it.

group: "judged", the pairs of world-bench on which the benchmark interpolates, and "clips", the windows of clip-bench,
likewise: on them the score is held against the quality that was measured, see
`experiments.studies.suitability_correlation`; "limits", other held-out world pairs, on which the parts of the score
were chosen. Features of 50 steps, at 128 px, without a LoRA or a prompt.
"""

from interp_lib.bench.datasets import load_case
from interp_lib.dreammover.suitability import suitability
from interp_lib.models.image_model import ImageModel

VERSION = 1
MODEL = "image"
SIZE, FRAMES = 128, 3  # those of the benchmark's tables
WINDOWS = {"bunny": (0, 28, 55, 83), "carphone": (0, 36, 71), "bikes": (82, 137, 190)}
GROUPS = {
    "judged": [f"world:{seed}" for seed in range(50)],
    "limits": [f"world:{seed}" for seed in range(100, 140)],
    "clips": [f"clip:{clip}:{first}" for clip, starts in WINDOWS.items() for first in starts],
}
ITEMS = [{"group": name, "case": case} for name, cases in GROUPS.items() for case in cases]
QUANTITIES = ("score", "change", "residue", "consistent", "smooth", "covered", "displacement")


def measure(model: ImageModel, *, group: str, case: str) -> list[dict]:
    pair = load_case(case, frames=FRAMES, size=SIZE).pair
    found = suitability(model, pair.image0, pair.image1, progress=False)
    return [{name: getattr(found, name) for name in QUANTITIES}]
