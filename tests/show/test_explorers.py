"""Explorers on a pair of one's own: what they say is checked by plain reckoning, and every control does something."""

import re
from dataclasses import replace
from functools import partial

import pytest
import torch

from interp_lib import match_features, render_pair, rotate_map
from interp_lib.dreammover.features import diffusion_features
from interp_lib.show import explore_attention, explore_correspondence, explore_fusion, explore_temporal_maps
from interp_lib.show.explorers import ahead, at_native_size, layer_grid

PAIR = render_pair(3, size=64)


@pytest.fixture(scope="module")
def panels(image_model, video_model):
    return {
        "correspondence": explore_correspondence(image_model, PAIR),
        "fusion": explore_fusion(image_model, PAIR, inversion_steps=4),
        "attention": explore_attention(image_model, PAIR, inversion_steps=4),
        "temporal maps": explore_temporal_maps(video_model, PAIR, steps=1),
    }


@pytest.mark.long
@pytest.mark.parametrize("name", ["correspondence", "fusion", "attention", "temporal maps"])
def test_every_control_changes_the_picture_which_has_alt_text_and_words(panels, name, capsys):
    *knobs, view = panels[name].children
    figure = panels[name].look(**{knob.description: knob.value for knob in knobs})
    printed = capsys.readouterr().out.strip()
    assert len(figure.axes) >= 3 and re.search(r"\d", printed) and printed in view.value.replace("&#x27;", "'")
    assert re.search(r'<img alt="[^"]{20,}"', view.value)
    for knob in knobs:
        before = view.value
        if hasattr(knob, "options"):
            knob.value = knob.options[-1]
        else:
            knob.value = not knob.value if isinstance(knob.value, bool) else knob.max - 2 * knob.step
        assert "Error" not in view.value and view.value != before, f"{knob.description} changes nothing"


def test_a_point_goes_where_the_flow_of_the_features_takes_it(image_model, panels, capsys):
    panel = panels["correspondence"]
    images = at_native_size(image_model, PAIR)[1]
    features, side = diffusion_features(image_model, images, progress=False), images.shape[-1] // image_model.vae_factor
    flow = match_features(*features.split(1), size=(side, side))[0]
    for row, column in ((0, 0), (side // 2, 1), (side - 1, side - 2)):
        panel.look(across=(column + 0.5) / side, down=(row + 0.5) / side, direction="first to last")
        match = torch.tensor([column, row]) + 0.5 + flow[:, row, column]
        x, y = re.findall(r"goes to the point (\d+) % from the left, (\d+) % from the top", capsys.readouterr().out)[0]
        assert [int(x), int(y)] == [round(100 * v) for v in (match / side).tolist()]
    same = replace(PAIR, image1=PAIR.image0, flow01=None, flow10=None)
    explore_correspondence(image_model, same).look(across=0.3, down=0.7, direction="first to last")
    start, end = re.findall(r"the point (\d+ % from the left, \d+ % from the top)", capsys.readouterr().out)
    assert start == end


def test_attention_is_shared_out_whole(panels, capsys):
    panel = panels["attention"]
    panel.look(across=0.5, down=0.5, layer=panel.children[2].options[0])
    shares = [int(x) for x in re.findall(r"(\d+) % on image", capsys.readouterr().out)]
    assert len(shares) == 2 and 99 <= sum(shares) <= 101


@pytest.mark.parametrize("size", [(64, 64), (56, 72)])
def test_the_grid_of_a_layer_is_that_of_its_input(image_model, size):
    """Down- and up-blocks see the grid on which their attention works; odd sides are halved upwards."""
    latents, seen, hooks = torch.zeros(1, 4, *(side // image_model.vae_factor for side in size)), {}, []
    for name, module in image_model.unet.named_modules():
        if name.endswith("attn1"):
            note = partial(lambda name, module, args, output: seen.update({name: output.shape[1]}), name)
            hooks.append(module.register_forward_hook(note))
    with torch.no_grad():
        image_model.predict_noise(latents, 1, image_model.embed_text(""))
    for hook in hooks:
        hook.remove()
    assert len(seen) > 3 and {name.split("_")[0] for name in seen} == {"down", "mid", "up"}
    for name, tokens in seen.items():
        h, w = layer_grid(image_model.unet, name, latents)
        assert h * w == tokens, name


def test_rotating_a_map_reverses_its_direction():
    a = torch.rand(6, 6).softmax(-1)
    slow = sum(float(a[j, k]) * (k - j) for j in range(6) for k in range(6)) / 6
    assert ahead(a) == pytest.approx(slow, abs=1e-5) and ahead(rotate_map(a)) == pytest.approx(-slow, abs=1e-5)
