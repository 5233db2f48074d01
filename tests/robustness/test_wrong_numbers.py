"""Wrong arguments of what computes on tensors: flow, splatting, fusion, spectra, measures, the world, tables."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp_lib import (
    Pair,
    backwarp,
    benchmark,
    block_flow,
    brightness_metric,
    combine_features,
    evaluate,
    fuse_direct,
    fuse_two_level,
    high_frequency_energy,
    match_features,
    patch_features,
    pca_project,
    refine_subpixel,
    render_clip,
    render_pair,
    rotate_map,
    softmax_splat,
    spectrum,
    winning_source,
)
from interp_lib import bench as b
from interp_lib.show import contact_sheet, figure_path, flow_to_colour
from tests.robustness.harness import FINITE, MISSING, NAN, WHOLE, refuse

x, y = torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
flow, mask = torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
array = np.zeros((1, 4, 8, 8), np.float32)
frames = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
short = frames[:1, ..., :8]
cube = Pair("cube", frames[:1], frames[3:])
table = pd.DataFrame([{"method": "a", "case": "c", "seed": 0, "status": "ok", "psnr": 3.0, "file": "f", "n": 2}])
two = (x, y, flow, flow)
four = (x, y, x, y, flow, flow)
outside = table.assign(method="truth", file="../secret")
LOADERS = (b.load_results, b.load_table, b.load_distances)
GRID, FLOW = "differ: both must be on one grid", r"a flow for \[N,C,h,w\] is \[N,2,h,w\]"


def swept(ground, **change):
    """`benchmark` into a folder that must not come to be."""
    benchmark(**{"methods": "cross-dissolve", "pairs": cube, "out": ground.out / "table", "progress": False} | change)


ROWS = [
    (pca_project, "features holds NaN or infinite values: check the network's dtype", (x * NAN,)),
    (pca_project, f"components=5 {WHOLE}", (x,), {"components": 5}),
    (match_features, "target is of type ndarray: give a tensor", (x, array)),
    (match_features, r"must agree in batch.*: take both .*, or give size=", (x, y[..., :7])),
    (match_features, f"tile=0 {WHOLE}", (x, y), {"tile": 0}),
    (combine_features, "features is empty: give a list of at least one", ([],)),
    (refine_subpixel, f"radius=-1 {WHOLE}", (x, y, flow), {"radius": -1}),
    (refine_subpixel, f"temperature='cold' {FINITE} above 0", (x, y, flow), {"temperature": "cold"}),
    (backwarp, FLOW, (flow, x)),
    (brightness_metric, "must have the same shape: latents of one pair", (x, y[..., :7], flow)),
    (softmax_splat, FLOW, (x, flow[:, :, :1])),
    (softmax_splat, r"metric has shape .*, it must be .*: \[N,1,h,w\]", (x, flow, x)),
    (fuse_direct, r"delta=1.5 must lie within \[0, 1\]: 0 is", (*two, 1.5)),
    (fuse_direct, "preset='fast' is unknown: choose one of", (*two, 0.5), {"preset": "fast"}),
    (fuse_two_level, r"alpha_bar=1.0 must lie within \(0, 1\)", (*four, 0.5, 1)),
    (fuse_two_level, r"all four must be \[N,C,h,w\] alike", (x, y, x, y[:, :3], flow, flow, 0.5, 0.5)),
    (winning_source, FLOW, (flow, flow[..., :7], 0.5)),
    (spectrum, r"x has shape \(1, 4, 0, 8\): a spectrum needs", (x[:, :, :0],)),
    (high_frequency_energy, f"centre=1.5 {FINITE} of at least 0 and at most 1", (x,), {"centre": 1.5}),
    (rotate_map, r"a has shape \[.*8\]: attention maps are", (torch.zeros(7, 8),)),
    (block_flow, r"two images \[1,3,H,W\] with sides multiples of 8", (frames[:1], short)),
    (patch_features, "both sides must be multiples of stride=5", (frames,), {"stride": 5}),
    (b.psnr, GRID, (frames, frames[..., :8])),
    (b.psnr, "psnr: the mask is torch.float32 .*: give torch.bool", (x, y, mask.float())),
    (b.pck, f"radius=-0.1 {FINITE}", (flow, flow, mask), {"radius": -0.1}),
    (b.pck, "pck: the mask is empty; choose a pair", (flow, flow, ~mask)),
    (b.moving_pixels, "middle has shape .*: give a frame", (cube, frames[1:2, ..., :8])),
    (b.place_agreement, "agreement: give colours of two images .* and a mask", (x.expand(2, -1, -1, -1), flow, x)),
    (b.actor_track, r"give \[T,3,H,W\] and \[1,3,H,W\] of one size", (frames, short)),
    (b.world_clips, f"size=8 {WHOLE} of at least 16", (1,), {"frames": 3, "size": 8}),
    (render_pair, f"size=0 {WHOLE}", (0,), {"size": 0}),
    (render_pair, "give a share", (0,), {"size": 32, "displacement": NAN}),
    (render_clip, f"frames=1 {WHOLE}", (0,), {"frames": 1, "size": 32}),
    (evaluate, "frames holds 2 images: give both ends and at least one", (frames[:2],)),
    (evaluate, "reference has shape .*: it must be", (frames,), {"reference": frames[1:]}),
    (evaluate, "fvd compares two sets of clips: collect them", (frames,), {"metrics": ["fvd"]}),
    (evaluate, "psnr needs reference=: give it, or leave psnr out", (frames,), {"metrics": "psnr"}),
    (b.run_method, "there is no method 'film': there are", ("film", None, cube)),
    (b.run_method, "has no option 'speed': it takes", ("cross-dissolve", None, cube), {"speed": 2}),
    (swept, "there is nothing to do: name one method", lambda g: (g,), {"methods": []}),
    (swept, "'kitti' is no data set .*: choose one of", lambda g: (g,), {"pairs": "kitti"}),
    (swept, "settings has 'speed', which none .*: they take", lambda g: (g,), {"settings": {"speed": 2}}),
    (swept, "none does not exist: give", lambda g: (g,), {"methods": "latent lerp", "model": "./none"}, MISSING),
    (swept, "metrics='sharpness' is unknown: choose one of", lambda g: (g,), {"metrics": ["sharpness"]}),
    (swept, f"workers=0 {WHOLE}", lambda g: (g,), {"workers": 0}),
    (swept, "'external:': there is no such folder, give", lambda g: (g,), {"methods": "external:"}, MISSING),
    *((load, "there is no table '../x': there are", ("../x",), {}, MISSING) for load in LOADERS),
    (b.summarise, "by='cas' is no column of this table: it has", (table, ["psnr"]), {"by": "cas"}),
    (b.ranking, "column='ssim' is not in the summary: it has", (b.summarise(table, ["psnr"]), "ssim")),
    (b.set_distances, "no successful row of the method 'truth'.*: run it too", ("out", table)),
    (b.set_distances, "frames/secret.png does not exist", ("", outside), {}, MISSING),
    (figure_path, "name '../a.png': give a file name without a folder", ("../a.png",)),
    (contact_sheet, "contact_sheet needs rows with one number", ({},)),
    (contact_sheet, "contact_sheet needs rows with one number", ({"a": frames, "b": frames[:2]},)),
    (flow_to_colour, r"flow must be \[N,2,H,W\]", (frames,)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].__name__)
def test_refused(ground, row):
    refuse(ground, *row)
