"""Networks that learnt ADE20K's names: the start of the stem's third trunk, and a word on materials.

MOSAIC knows the first 31 of ADE20K's 150 names, a DeepLab knows all; where both agree and their mean is
sure, a photo without drawn materials gets them from here. Neither is trusted alone, and none of their things
is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ovs_core.checkpoints import CheckpointError, load_strict
from ovs_core.encoders.mosaic import Mosaic
from ovs_core.training.data import read_rgb

MOSAIC_FILE = "mosaic_fp16_ade31.onnx"
DEEPLAB_FILE = "deeplabv3_mnv2_ade150.tflite"
LABELS_FILE = "ade150_labels.txt"
MATERIAL_NAMES = 32  # outputs of MOSAIC: "none of them", then the first 31 of ADE20K's 150
SURE = 0.75  # mean probability of both networks from which a place counts
MAP_SIDE = 128  # cells of a kept map, both ways
MOSAIC_SIDE = 512
DEEPLAB_STEP = 4  # its logits are interpolated to every pixel of a 513 x 513 frame

# What ADE20K's indices mean on a photo: names that would each be right. Things are left to drawn masks.
MATERIALS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("wall",),
        2: ("building", "house"),
        3: ("sky",),
        4: ("floor",),
        5: ("tree", "trees"),
        6: ("ceiling",),
        7: ("road", "street"),
        9: ("window",),
        10: ("grass", "lawn"),
        12: ("sidewalk", "pavement"),
        14: ("ground", "dirt", "soil"),
        15: ("door",),
        17: ("mountain", "hill"),
        18: ("plant", "plants", "bush"),
        19: ("curtain", "drapes"),
        22: ("water",),
        26: ("house", "building"),
        27: ("sea", "water", "ocean"),
        29: ("rug", "carpet"),
        30: ("field", "grass", "meadow"),
    }
)


def ade_names(folder: Path) -> tuple[str, ...]:
    """Names of MOSAIC's outputs; the first, "none of them", is empty."""
    lines = (folder / LABELS_FILE).read_text(encoding="utf-8").splitlines()
    return ("", *(line.split("\t")[1] for line in lines[: MATERIAL_NAMES - 1]))


def start_mosaic(mosaic: Mosaic, folder: Path) -> None:
    """Load MOSAIC into `mosaic`.

    Args:
        mosaic: changed in place.
        folder: holds the network as ONNX.

    Raises:
        CheckpointError: if the file is missing, damaged or for another network.
    """
    path = folder / MOSAIC_FILE
    try:
        convolutions = _convolutions(path)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as ONNX: {error}.") from error
    modules = _in_order(mosaic)
    if len(modules) != len(convolutions):
        raise CheckpointError(f"{path} has {len(convolutions)} convolutions, must have {len(modules)}.")
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(modules, convolutions, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
    load_strict(mosaic, state, source=str(path))


def _in_order(mosaic: Mosaic) -> list[str]:
    """Names of the convolutions in the order of the graph."""
    names = [name for name, part in mosaic.named_modules() if isinstance(part, nn.Conv2d)]
    names.remove("quarter")
    names.insert(names.index("blocks.1.project"), "quarter")
    return names


def _convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weights (O, I, k, k) and biases (O,) of an ONNX graph's convolutions, batch norms folded in."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {
        entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in graph.initializer
    }
    convolutions: list[tuple[Tensor, Tensor]] = []
    for node in graph.node:
        if node.op_type == "Conv":
            weight = tensors[node.input[1]].float()
            bias = tensors[node.input[2]].float() if len(node.input) > 2 else weight.new_zeros(len(weight))
            convolutions.append((weight, bias))
        elif node.op_type == "BatchNormalization":
            gain, offset, mean, variance = (tensors[name].float() for name in node.input[1:5])
            factor = gain / (variance + next(a.f for a in node.attribute if a.name == "epsilon")).sqrt()
            weight, bias = convolutions[-1]
            convolutions[-1] = weight * factor[:, None, None, None], (bias - mean) * factor + offset
    return convolutions


def material_maps(photos: Iterable[Path], folder: Path) -> Iterable[tuple[Path, NDArray[np.uint8]]]:
    """Where both networks agree on a material and are sure of it.

    Args:
        photos: image files.
        folder: of the two networks' files.

    Yields:
        A photo and its map (128, 128) over the whole photo: a key of `MATERIALS`, or 0.
    """
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    mosaic = onnxruntime.InferenceSession(
        str(folder / MOSAIC_FILE), options, providers=["CPUExecutionProvider"]
    )
    entry = mosaic.get_inputs()[0].name
    deeplab = Interpreter(str(folder / DEEPLAB_FILE), num_threads=torch.get_num_threads())
    deeplab.allocate_tensors()
    source, target = deeplab.get_input_details()[0], deeplab.get_output_details()[0]
    for path in photos:
        pixels = read_rgb(path)
        (logits,) = mosaic.run(["decoder_add_cast"], {entry: _frame(pixels, MOSAIC_SIDE)})
        coarse = torch.from_numpy(logits[0]).softmax(dim=0)  # (32, 128, 128)
        deeplab.set_tensor(source["index"], _frame(pixels, int(source["shape"][1])))
        deeplab.invoke()
        fine = deeplab.get_tensor(target["index"])[0, ::DEEPLAB_STEP, ::DEEPLAB_STEP]
        fine = torch.from_numpy(fine.copy()).permute(2, 0, 1).softmax(dim=0)  # (151, 129, 129)
        yield path, agreed(coarse, fine)


def kept_maps(photos: Iterable[Path], folder: Path, path: Path) -> dict[str, NDArray[np.uint8]]:
    """`material_maps` by the stem of the photo, from the file `path`, which is made when it is not there."""
    if not path.exists():
        maps: dict[str, Any] = {photo.stem: materials for photo, materials in material_maps(photos, folder)}
        partial = path.with_suffix(".part.npz")
        np.savez_compressed(partial, **maps)
        partial.replace(path)
    with np.load(path) as stored:
        return dict(stored)


def agreed(coarse: Tensor, fine: Tensor) -> NDArray[np.uint8]:
    """Map (128, 128) of the materials that two networks agree on.

    Args:
        coarse: probabilities (32, h, w) of "none" and the first 31 names.
        fine: probabilities (1 + 150, h', w') of "none" and all 150.
    """
    size = (MAP_SIDE, MAP_SIDE)
    maps = [
        F.interpolate(probabilities[None], size=size, mode="bilinear", align_corners=False)[0]
        for probabilities in (coarse, fine)
    ]
    first, second = (probabilities.argmax(dim=0) for probabilities in maps)
    mean = (maps[0][:MATERIAL_NAMES] + maps[1][:MATERIAL_NAMES]) / 2
    known = torch.zeros(maps[1].shape[0], dtype=torch.bool)
    known[list(MATERIALS)] = True
    sure = (first == second) & (mean.amax(dim=0) >= SURE) & known[first]
    return torch.where(sure, first, torch.zeros_like(first)).to(torch.uint8).numpy()


def _frame(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """A photo (H, W, 3) as a batch of one square frame in [-1, 1]."""
    frame = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR), np.float32)
    return frame[None] / 127.5 - 1
