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
    consistency_mask,
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
from interp_lib.bench import (
    actor_spread,
    actor_track,
    end_point_error,
    load_distances,
    load_results,
    load_table,
    moving_pixels,
    part_agreement,
    pca_colours,
    pck,
    place_agreement,
    psnr,
    ranking,
    resize_flow,
    run_method,
    set_distances,
    summarise,
    world_clips,
)
from tests.robustness.harness import Row, refuse

NAN, INF = float("nan"), float("inf")
WHOLE, FINITE = "is out of range: give a whole number", "is out of range: give a finite number"
x, y = torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
flow, mask = torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
array = np.zeros((1, 4, 8, 8), np.float32)
frames = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
cube = Pair("cube", frames[:1], frames[3:])
rows = pd.DataFrame([{"method": "a", "case": "c", "seed": 0, "status": "ok", "psnr": 3.0, "file": "f", "n": 2}])


def row(function, about, says, *arguments, kind=ValueError, **options):
    return Row(f"{function.__name__}: {about}", lambda ground: function(*arguments, **options), says, kind)


def swept(about, says, kind=ValueError, **change):
    """A row of `benchmark` into a folder that must not come to be."""

    def call(ground):
        how = {"methods": "cross-dissolve", "pairs": cube, "out": ground.out / "table", "progress": False} | change
        benchmark(**how)

    return Row(f"benchmark: {about}", call, says, kind)


ROWS = [
    row(pca_project, "an array", "features is of type ndarray: give a tensor", array),
    row(pca_project, "NaN", "features holds NaN or infinite values: check the network's dtype", x * NAN),
    row(pca_project, "components", f"components=5 {WHOLE}", x, components=5),
    row(pca_colours, "one image", r"features has shape \[4, 8, 8\]: give \[N,C,h,w\]", x[0]),
    row(match_features, "an array", "target is of type ndarray: give a tensor", x, array),
    row(match_features, "whole numbers", "source must be a float tensor", x.long(), y),
    row(match_features, "infinite", "target holds NaN or infinite features: check the network's dtype", x, y * INF),
    row(match_features, "another grid", r"must agree in batch.*: take both .*, or give size=", x, y[..., :7]),
    row(match_features, "size", f"size=8.0 {WHOLE}", x, y, size=8.0),
    row(match_features, "tile", f"tile=0 {WHOLE}", x, y, tile=0),
    row(combine_features, "a tensor", "features is a Tensor: give a list", x),
    row(combine_features, "none", "features is empty: give a list of at least one", []),
    row(combine_features, "NaN", "source holds NaN or infinite features: check", [x, y * NAN]),
    row(refine_subpixel, "radius", f"radius=-1 {WHOLE}", x, y, flow, radius=-1),
    row(refine_subpixel, "temperature", f"temperature='cold' {FINITE} above 0", x, y, flow, temperature="cold"),
    row(consistency_mask, "tolerance", f"tolerance=nan {FINITE}", flow, flow, tolerance=NAN),
    row(consistency_mask, "another grid", r"a flow for \[N,C,h,w\] is \[N,2,h,w\]", flow, flow[..., :7]),
    row(backwarp, "flow for image", r"a flow for \[N,C,h,w\] is \[N,2,h,w\]", flow, x),
    row(backwarp, "an array", "image is of type ndarray: give a tensor", array, flow),
    row(brightness_metric, "alpha", f"alpha=inf {FINITE}", x, y, flow, alpha=INF),
    row(brightness_metric, "shapes", "must have the same shape: latents of one pair", x, y[..., :7], flow),
    row(softmax_splat, "a flow of one row", r"a flow for \[N,C,h,w\] is \[N,2,h,w\]", x, flow[:, :, :1]),
    row(softmax_splat, "metric's shape", r"metric has shape .*, it must be .*: \[N,1,h,w\]", x, flow, x),
    row(fuse_direct, "a time as text", "delta='half' is no time: give a number within", x, y, flow, flow, "half"),
    row(fuse_direct, "no time", "delta=None is no time: give a number within", x, y, flow, flow, None),
    row(fuse_direct, "a time beyond", r"delta=1.5 must lie within \[0, 1\]: 0 is", x, y, flow, flow, 1.5),
    row(fuse_direct, "a time of NaN", r"delta=nan must lie within \[0, 1\]: 0 is", x, y, flow, flow, NAN),
    row(fuse_direct, "preset", "preset='fast' is unknown: choose one of", x, y, flow, flow, 0.5, preset="fast"),
    row(fuse_two_level, "alpha_bar", r"alpha_bar=1.0 must lie within \(0, 1\)", x, y, x, y, flow, flow, 0.5, 1),
    row(fuse_two_level, "alpha_bar text", f"alpha_bar='x' {FINITE}", x, y, x, y, flow, flow, 0.5, "x"),
    row(fuse_two_level, "shapes", r"all four must be \[N,C,h,w\] alike", x, y, x, y[:, :3], flow, flow, 0.5, 0.5),
    row(fuse_two_level, "low", "low='mean' is unknown: choose", x, y, x, y, flow, flow, 0.5, 0.5, low="mean"),
    row(winning_source, "another grid", r"a flow for \[N,C,h,w\] is \[N,2,h,w\]", flow, flow[..., :7], 0.5),
    row(spectrum, "a list", "x is of type list: give a tensor", [1.0, 2.0]),
    row(spectrum, "nothing", r"x has shape \(1, 4, 0, 8\): a spectrum needs", x[:, :, :0]),
    row(high_frequency_energy, "centre", f"centre='low' {FINITE}", x, centre="low"),
    row(high_frequency_energy, "centre beyond", f"centre=1.5 {FINITE} of at least 0 and at most 1", x, centre=1.5),
    row(rotate_map, "one row", r"a has shape \[8\]: attention maps are \[..., N, N\]", torch.zeros(8)),
    row(rotate_map, "no square", r"a has shape \[7, 8\]: attention maps are", torch.zeros(7, 8)),
    row(block_flow, "sizes", r"two images \[1,3,H,W\] with sides multiples of 8", frames[:1], frames[:1, ..., :8]),
    row(patch_features, "stride", "both sides must be multiples of stride=5", frames, stride=5),
    row(psnr, "shapes", "differ: both must be on one grid", frames, frames[..., :8]),
    row(psnr, "an array", "second is of type ndarray: give a tensor", frames, array),
    row(psnr, "a mask of numbers", "psnr: the mask is torch.float32 .*: give torch.bool", x, y, mask.float()),
    row(pck, "a mask of another grid", "pck: the mask is .*: give torch.bool", flow, flow, mask[..., :7]),
    row(pck, "radius", f"radius=-0.1 {FINITE}", flow, flow, mask, radius=-0.1),
    row(pck, "no pixel", "pck: the mask is empty; choose a pair", flow, flow, ~mask),
    row(end_point_error, "shapes", "differ: both must be on one grid", flow, flow[..., :7]),
    row(resize_flow, "size", r"size=\(8, 0\)|size=0 is out of range: give", flow, (8, 0)),
    row(moving_pixels, "another size", "middle has shape .*: give a frame", cube, frames[1:2, ..., :8]),
    row(
        place_agreement, "no mask", "agreement: give colours of two images .* and a mask", x.repeat(2, 1, 1, 1), flow, x
    ),
    row(part_agreement, "one image", "agreement: give colours of two images .*not 1", x, flow, mask),
    row(actor_track, "another size", r"give \[T,3,H,W\] and \[1,3,H,W\] of one size", frames, frames[:1, ..., :8]),
    row(actor_spread, "no ground", "ground is of type NoneType: give a tensor", frames, None),
    row(world_clips, "count", f"count=0 {WHOLE}", 0, frames=3),
    row(world_clips, "size", f"size=8 {WHOLE} of at least 16", 1, frames=3, size=8),
    row(render_pair, "seed", f"seed='x' {WHOLE}", "x", size=32),
    row(render_pair, "size", f"size=0 {WHOLE}", 0, size=0),
    row(render_pair, "displacement", "displacement=nan: give a share .* between 0 and 1", 0, size=32, displacement=NAN),
    row(render_pair, "displacement a text", "displacement=far: give a share", 0, size=32, displacement="far"),
    row(render_pair, "three displacements", "give a share", 0, size=32, displacement=(0.1, 0.2, 0.3)),
    row(render_clip, "frames", f"frames=1 {WHOLE}", 0, frames=1, size=32),
    row(evaluate, "two frames", "frames holds 2 images: give both ends and at least one", frames[:2]),
    row(
        evaluate,
        "reference",
        "reference has shape .*: it must be",
        frames,
        reference=frames[1:],
    ),
    row(evaluate, "a metric by number", "metrics=3 is unknown: choose one of 'auto'", frames, metrics=3),
    row(evaluate, "fvd", "fvd compares two sets of clips: collect them", frames, metrics=["fvd"]),
    row(evaluate, "moving", "moving is of type list: give a tensor", frames, moving=[1]),
    row(evaluate, "facing", "facing='left' is out of range: give 1 for right", frames, facing="left"),
    row(evaluate, "flow", "flow=3 is unknown: give a function", frames, flow=3),
    row(evaluate, "psnr of nothing", "psnr needs reference=: give it, or leave psnr out", frames, metrics="psnr"),
    row(run_method, "unknown", "there is no method 'film': there are", "film", None, cube),
    row(run_method, "option", "has no option 'speed': it takes", "cross-dissolve", None, cube, speed=2),
    row(run_method, "no pair", "pair is a str: give load_pair", "cross-dissolve", None, "world"),
    row(run_method, "no model", "model is a str: give load_image_model", "DreamMover", "embedded", cube),
    swept("a method by number", "there is no method 3: there are", methods=3),
    swept("no method", "there is nothing to do: name one method", methods=[]),
    swept("an unknown set", "'kitti' is no data set .*: choose one of", pairs="kitti"),
    swept("settings", "settings='fast': give a dictionary of options", settings="fast"),
    swept("a setting that none takes", "settings has 'speed', which none .*: they take", settings={"speed": 2}),
    swept("device", "device='gpu' cannot be used here: give 'auto', 'cpu'", device="gpu"),
    swept("model", "none does not exist: give", FileNotFoundError, methods="latent lerp", model="./none"),
    swept("a model by number", "video_model=3: give 'embedded'", video_model=3),
    swept(
        "a model's name too long", "x does not exist: give", FileNotFoundError, methods="latent lerp", model="x" * 400
    ),
    swept("out", "out=None is no folder: name one", out=None),
    swept("metrics", "metrics='sharpness' is unknown: choose one of", metrics=["sharpness"]),
    swept("workers", f"workers=0 {WHOLE}", workers=0),
    swept(
        "no folder of another tool",
        "'external:': there is no such folder, give",
        FileNotFoundError,
        methods="external:",
    ),
    row(load_results, "unknown", "there is no table '../x': there are", "../x", kind=FileNotFoundError),
    row(load_table, "unknown", "there is no table '../x': there are", "../x", kind=FileNotFoundError),
    row(load_distances, "unknown", "there is no table 'none': there are", "none", kind=FileNotFoundError),
    row(summarise, "by", "by='cas' is no column of this table: it has", rows, ["psnr"], by="cas"),
    row(ranking, "column", "column='ssim' is not in the summary: it has psnr", summarise(rows, ["psnr"]), "ssim"),
    row(set_distances, "no truth", "no successful row of the method 'truth'.*: run it too", "out", rows),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.about)
def test_refused(ground, row):
    refuse(row, ground)


def test_a_row_of_a_table_names_no_file_outside_its_frames(ground):
    (ground.out / "secret.png").touch()
    true = rows.assign(method="truth", file="../secret")
    refuse(
        Row(
            "set_distances: a file outside",
            lambda g: set_distances(g.out, true),
            "frames/secret.png does not exist: run",
            FileNotFoundError,
        ),
        ground,
    )
