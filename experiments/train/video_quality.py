"""Is the embedded video model good enough to mean something? Its card's figures, from the tables of the studies."""

import json
from pathlib import Path

import numpy as np
import torch

from experiments.studies import compute, stale
from experiments.train.picture_quality import held_out_photographs
from interp_lib.bench.metrics import psnr
from interp_lib.bench.motion import world_clips
from interp_lib.bench.tables import load_results
from interp_lib.models import VideoModel, load_video_model
from interp_lib.models.folder import EMBEDDED

LEAST = 2.0  # pixels of 64 that count as having moved; the true clips move by 9 to 26


def measure_video(folder: Path) -> dict[str, float]:
    """Every row of the video model's card; tables that are missing or stale are computed first."""
    rows = {study: _table(study, folder) for study in ("animation", "backward", "inbetweening", "exchange")}
    model = load_video_model(folder)

    def share(values: list[float]) -> float:
        return 100 * float(np.mean(np.array(values) > LEAST))

    def column(study: str, name: str, **values: object) -> list[float]:
        return [r[name] for r in rows[study] if all(r[key] == value for key, value in values.items())]

    def mean(study: str, name: str, **values: object) -> float:
        return float(np.mean(column(study, name, **values)))

    forward = {"way": "forward"}
    speed = np.corrcoef(column("animation", "true_net", **forward), column("animation", "net", **forward))[0, 1]
    followed = column("exchange", "net", what="ball", maps="twin")
    return picture_rows(model) | {
        "forward: the actor goes where it faces": share(column("animation", "net", **forward)),
        "backward: the actor comes from behind": share(column("backward", "net", way="tuned")),
        "the same, all tuned, no maps": share(column("backward", "net", way="unrotated")),
        "the same, rotated maps without the fine-tune": share(column("backward", "net", way="rotated")),
        "the same, rotated and tuned, from one image alone": share(column("animation", "net", way="tuned")),
        "the same, the forward model played backwards": share(column("animation", "net", way="plain")),
        "given image in its video, forward": mean("animation", "key", **forward),
        "given image in its video, backward": mean("backward", "key", way="tuned"),
        "first keyframe reached": mean("inbetweening", "first", method="dual"),
        "last keyframe reached": mean("inbetweening", "last", method="dual"),
        "speed asked for and made, correlation": float(speed),
        "balls: maps of another clip decide the way": share([-x for x in followed]),
        "clips of the forward and backward rows": len(column("animation", "net", **forward)),
        "clips of the rows for comparison": len(column("backward", "net", way="unrotated")),
    }


def picture_rows(model: VideoModel) -> dict[str, float]:
    """What the autoencoder does to held-out clips and photographs, in dB."""
    clips = world_clips(32, frames=14)
    ends = torch.cat([clip.frames[[0, -1]] for clip in clips])
    photographs = held_out_photographs(64)
    returned = psnr(model.decode(model.encode(ends)), ends)
    return {
        "autoencoder PSNR, clips": float(returned.mean()),
        "autoencoder PSNR, photographs": float(psnr(model.decode(model.encode(photographs)), photographs).mean()),
        "keyframes as the autoencoder returns them": float(returned.mean()),
        "first frame against last frame": float(psnr(ends[::2], ends[1::2]).mean()),
    }


def _table(study: str, folder: Path) -> list[dict]:
    if folder.resolve() == (EMBEDDED / "video").resolve():
        if stale(study):
            compute(study)
        return load_results(study).to_dict("records")
    table = json.loads(compute(study, str(folder), out=Path("build/results")).read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
