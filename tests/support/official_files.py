"""Official files of mask methods in toy size, and catalogues that name them."""

import json

import torch
from mask_toys import conv_clip, official_state, random_head

from ovs_core.checkpoints import read_state
from ovs_core.encoders.clip_conv import PIXEL_MEAN, PIXEL_STD
from ovs_core.encoders.loading import LoadedModel, checked_file
from ovs_core.encoders.official_clip import load_clip
from ovs_core.encoders.towers import EncoderSpec, conv_pyramid

FORMS = {"maft_plus": "semantic", "fc_clip": None}


def entry(name, file, **changes):
    line = {
        "name": name,
        "title": f"Toy {name}",
        "kind": "clip+head",
        "files": [file],
        "url": None,
        "sha256": None,
        "bytes": None,
        "licence": "MIT",
        "source": "made by a test",
        "paper": "",
        "open_clip_model": None,
        "page": "https://example.org/toy",
    }
    return {**line, **changes}


def write_catalogue(folder, *entries):
    folder.mkdir(exist_ok=True)
    (folder / "catalogue.json").write_text(json.dumps({"weights": list(entries)}))
    return folder


def toy_encoder(method):
    """What the registry has for an official file, on a tower of toy size."""

    def load(store):
        path, sha256 = checked_file(store, method)
        model = conv_clip(seed=9)
        load_clip(model, read_state(path), source=str(path))
        return LoadedModel(model, PIXEL_MEAN, PIXEL_STD, {path.name: sha256})

    return EncoderSpec(
        f"toy_{method}",
        f"Toy tower of {method}",
        "",
        method,
        "full",
        "convnext",
        32,
        load,
        tokens=False,
        pyramid=conv_pyramid,
        heads={method: method},
    )


def write_file(folder, method, seed=1):
    state = official_state(conv_clip(seed=seed), random_head(FORMS[method], seed=seed, queries=7, layers=3))
    torch.save({"model": state}, folder / f"{method}.pth")
