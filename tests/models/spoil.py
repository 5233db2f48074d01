"""Ways to spoil a copy of a model's folder."""

import json

from safetensors.torch import load_file, save_file

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
NAMES = {
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "feature_extractor": "preprocessor_config.json",
}


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def index(**changes):
    return lambda folder: edit(folder / "model_index.json", **changes)


def config(part, **changes):
    return lambda folder: edit(folder / part / NAMES.get(part, "config.json"), **changes)


def text(path, content):
    return lambda folder: (folder / path).write_text(content)


def remove(*paths):
    return lambda folder: [(folder / path).unlink() for path in paths]


def weights(change):
    """Change the state of the U-Net in its file."""
    return lambda folder: save_file(change(load_file(folder / UNET_FILE)), folder / UNET_FILE)


def renamed(old, new):
    return lambda folder: [p.rename(p.with_name(p.name.replace(old, new))) for p in list(folder.rglob(f"*{old}"))]


def sharded(folder):
    """Split the U-Net's weights into two files with an index, as large models have them; return the two paths."""
    state = load_file(folder / UNET_FILE)
    (folder / UNET_FILE).unlink()
    names = [f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    where = {key: names[k % 2] for k, key in enumerate(sorted(state))}
    for name in names:
        save_file({k: v for k, v in state.items() if where[k] == name}, folder / "unet" / name)
    (folder / f"{UNET_FILE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return [folder / "unet" / name for name in names]


not_finite = weights(lambda state: state | {"conv_in.bias": state["conv_in.bias"] * float("inf")})
