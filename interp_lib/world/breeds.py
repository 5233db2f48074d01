"""The coats of the picture-book world: three breeds of each kind, every one with a fixed coat, slot by slot.

A coat is written as "pattern first-colour second-colour" for each slot of rig.SLOTS. A *stranger* has a coat drawn at
random; strangers appear in no training picture.
"""

import numpy as np

from interp_lib.world.rig import KINDS, SLOTS

COLOURS = {
    "red": (0.82, 0.16, 0.14),
    "orange": (0.92, 0.52, 0.12),
    "yellow": (0.93, 0.82, 0.2),
    "green": (0.2, 0.6, 0.24),
    "blue": (0.16, 0.36, 0.8),
    "purple": (0.5, 0.24, 0.66),
    "pink": (0.92, 0.56, 0.68),
    "brown": (0.46, 0.3, 0.18),
    "white": (0.93, 0.93, 0.9),
    "grey": (0.5, 0.5, 0.52),
    "black": (0.12, 0.12, 0.13),
}
PATTERNS = ("plain", "striped", "spotted", "checked")
# kind -> breed -> the coats of body, head, limb, accent; eyes are black, a car's window is pale
BREEDS = {
    "walker": {
        "tiger": ("striped orange black", "striped orange white", "plain orange black", "striped orange black"),
        "dalmatian": ("spotted white black", "spotted white black", "plain white black", "plain black white"),
        "cow": ("checked brown white", "plain white pink", "plain brown white", "plain pink brown"),
    },
    "biped": {
        "sailor": ("striped blue white", "plain pink white", "plain white blue", "plain blue white"),
        "clown": ("spotted yellow red", "plain white red", "striped red yellow", "plain red yellow"),
        "ranger": ("checked green brown", "plain brown pink", "plain brown green", "plain green brown"),
    },
    "bird": {
        "parrot": ("plain red orange", "plain red white", "striped blue yellow", "plain yellow blue"),
        "magpie": ("plain white black", "plain black white", "striped black white", "plain grey black"),
        "finch": ("spotted yellow brown", "plain green yellow", "plain brown yellow", "plain orange brown"),
    },
    "fish": {
        "clownfish": ("striped orange white", "plain orange white", "plain orange black", "plain black orange"),
        "perch": ("striped green black", "plain green yellow", "plain red green", "plain red yellow"),
        "guppy": ("spotted purple yellow", "plain purple pink", "spotted yellow purple", "plain pink purple"),
    },
    "car": {
        "taxi": ("checked yellow black", "plain yellow black", "plain black grey", "plain white grey"),
        "fire engine": ("striped red white", "plain red white", "plain black grey", "plain yellow white"),
        "van": ("plain blue white", "plain white blue", "plain black grey", "plain grey white"),
    },
}
EYES = {"car": "plain white grey"}


def breed_coat(kind: str, breed: str) -> dict[str, list[float]]:
    """The fixed coat of a breed: slot -> one row of `Scene.patterns`."""
    words = dict(zip(("body", "head", "limb", "accent"), BREEDS[kind][breed], strict=True))
    words["eye"] = EYES.get(kind, "plain black white")
    number = list(KINDS).index(kind) * 3 + list(BREEDS[kind]).index(breed)
    rng = np.random.default_rng([number, 31])  # frequency, angle and offset of the patterns
    return {slot: _row(*words[slot].split(), rng, spread=0.0) for slot in SLOTS}


def random_coat(rng: np.random.Generator, kind: str) -> tuple[dict[str, list[float]], str]:
    """A stranger's coat, and the words that describe its body. Wheels are plain: how far they rolled cannot be seen."""
    coat, body = {}, ""
    for slot in SLOTS:
        first, second = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
        pattern = str(rng.choice(PATTERNS, p=[0.22, 0.38, 0.2, 0.2]))
        if slot == "eye":
            first, second, pattern = *(("black", "white") if rng.random() < 0.7 else ("white", "black")), "plain"
        if kind == "car" and slot in ("limb", "accent"):
            pattern = "plain"
        coat[slot] = _row(pattern, first, second, rng, spread=0.08)
        body = f"{pattern} {first}" if slot == "body" else body
    return coat, body


def _row(pattern: str, first: str, second: str, rng: np.random.Generator, *, spread: float) -> list[float]:
    """colour 0 (3), colour 1 (3), index of the pattern, frequency, angle, offset"""
    colours = [np.clip(np.add(COLOURS[c], rng.uniform(-spread, spread, 3)), 0.02, 0.98) for c in (first, second)]
    style = [PATTERNS.index(pattern), rng.uniform(5.0, 10.0), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)]
    return [*colours[0], *colours[1], *style]
