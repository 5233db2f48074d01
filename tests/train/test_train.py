"""The training recipe: exact resumption, whole files, and a vocabulary that round-trips."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from interp_lib.train.loop import fit, write_whole
from interp_lib.train.text import LENGTH, build_tokenizer, token_ids
from interp_lib.world import sample_scene


def _problem():
    torch.manual_seed(0)
    networks = nn.ModuleDict({"net": nn.Linear(4, 3)})

    def loss(networks, step, generator):
        x = torch.randn(8, 4, generator=generator)
        return (networks["net"](x) - x[:, :3] * 2).square().mean()

    return networks, loss


def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(tmp_path):
    networks, loss = _problem()
    whole = fit("a", networks, loss, steps=40, lr=1e-2, folder=tmp_path / "whole")

    class Killed(Exception):
        pass

    def fragile(networks, step, generator):
        if step == 23:
            raise Killed
        return loss(networks, step, generator)

    networks, _ = _problem()
    with pytest.raises(Killed):
        fit("a", networks, fragile, steps=40, lr=1e-2, folder=tmp_path / "broken", save_every=0.0)
    networks, _ = _problem()
    resumed = fit("a", networks, loss, steps=40, lr=1e-2, folder=tmp_path / "broken")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


def test_the_average_follows_and_the_loss_falls(tmp_path):
    networks, loss = _problem()
    before = loss(networks, 0, torch.Generator().manual_seed(9)).item()
    average = fit("a", networks, loss, steps=300, lr=3e-2, folder=tmp_path, warmup=10)
    assert loss(average, 0, torch.Generator().manual_seed(9)).item() < 0.05 * before
    assert not any(p.requires_grad for p in average.parameters())


def test_nothing_half_written_is_left_under_the_final_name(tmp_path):
    def half(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError):
        write_whole(tmp_path / "x.pt", half)
    assert not (tmp_path / "x.pt").exists()


def test_every_word_of_the_world_is_one_token_and_any_text_survives():
    captions = [sample_scene(s).captions[0] for s in range(600)]
    tokenizer = build_tokenizer(captions)
    words = set(" ".join(captions).replace(",", " ").replace("'", " ").split())
    whole = [w for w in words if len(tokenizer(w).input_ids) == 3]  # start, the word, end
    assert len(whole) >= 0.9 * len(words)
    ids = token_ids(tokenizer, [*captions[:3], "", "Zürich, 3 Uhr früh: ein Hund"])
    assert ids.shape == (5, LENGTH)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).replace(" ,", ",") == captions[0]
