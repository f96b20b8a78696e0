"""What training takes from pretrained networks.

Starting weights of the stem and its detector, a word on sky and plants, what PASCAL VOC's network believes of
any picture, and where the thing is in a photo of one thing. All are Apache-2.0. The stem's tensors start from
theirs and are trained on; none ships unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ovs_core.checkpoints import CheckpointError, load_strict, read_state
from ovs_core.encoders.detector import Detector
from ovs_core.encoders.mini import ConvStem
from ovs_core.training.data import read_rgb
from recipes.mini.coco import PLANTS, SKY
from recipes.mini.names import voc_names
from recipes.mini.things import salience_key

MIDDLE = 127.5  # pixels of [0, 255] are x * 127.5 + 127.5
# Cityscapes train ids that hold on everyday photos too; its other classes do not.
CITYSCAPES_SKY, CITYSCAPES_PLANTS = 10, (8, 9)
SURE = 0.85  # probability of the soft-max
SALIENCE_SIDE = 320  # pixels, fixed in the network's file
SALIENCE_MEAN, SALIENCE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DETECTOR_MEAN, DETECTOR_STD = (
    (103.53, 116.28, 123.675),
    (57.375, 57.12, 58.395),
)  # of blue, green, red in 0..255
CITYSCAPES_LOGITS = "ResizeBilinear"  # the tensor's name in the network


def start_stem(stem: ConvStem, folder: Path) -> None:
    """Load both trunks and their heads into `stem` (the word layers and the mix are left alone).

    Args:
        stem: changed in place.
        folder: holds the two teachers' files.

    Raises:
        CheckpointError: if a file is missing or for another network.
    """
    imagenet = read_state(folder / "mobilenetv2_imagenet_classifier.safetensors")
    classifier = _below(imagenet, "classifier.")
    _load(stem.imagenet, _starting(imagenet, "stem.", "blocks."), "ImageNet trunk")
    _load(stem.imagenet_top, _below(imagenet, "top."), "ImageNet top")
    classifier = {**classifier, "weight": classifier["weight"][..., None, None]}  # linear layer as 1x1
    _load(stem.imagenet_classifier, classifier, "ImageNet classifier")
    _load_voc(stem, folder)


def _load_voc(stem: ConvStem, folder: Path) -> None:
    voc = read_state(folder / "deeplabv3_mobilenetv2_voc.safetensors")
    for name, module in (
        ("trunk", stem.voc),
        ("aspp0", stem.voc_aspp),
        ("image_pooling", stem.voc_pooling),
        ("concat_projection", stem.voc_projection),
        ("logits", stem.voc_classifier),
    ):
        _load(module, _below(voc, f"{name}."), f"VOC {name}")


def start_detector(detector: Detector, folder: Path) -> None:
    """Load NanoDet-g into `detector`, which then takes RGB in [-1, 1] instead of scaled blue, green, red.

    Args:
        detector: changed in place; its names are the first outputs of the network's heads, boxes come after.
        folder: holds the network as TensorFlow.js saved it, `nanodet.json` and `nanodet.bin`.

    Raises:
        CheckpointError: if the files are missing, damaged or for another network.
    """
    graph = folder / "nanodet.json"
    try:
        convolutions = _graph_convolutions(json.loads(graph.read_text(encoding="utf-8")), folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{graph} cannot be read as a saved NanoDet: {error}.") from error
    names = detector.classifiers[0].out_channels
    modules = _in_order(detector)
    if len(modules) != len(convolutions):
        raise CheckpointError(
            f"{graph} has {len(convolutions)} convolutions, must have {len(modules)} to be NanoDet-g."
        )
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(modules, convolutions, strict=True):
        rows = names if name.startswith("classifiers.") else len(bias)
        state[f"{name}.weight"], state[f"{name}.bias"] = weight[:rows], bias[:rows]
    mean, std = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (DETECTOR_MEAN, DETECTOR_STD))
    first = state["stem.weight"]
    state["stem.bias"] = state["stem.bias"] + (first * (MIDDLE - mean) / std).sum(dim=(1, 2, 3))
    state["stem.weight"] = (first * MIDDLE / std).flip(1)
    load_strict(detector, state, source=str(graph))


def _in_order(detector: Detector) -> list[str]:
    """Names of the detector's convolutions in the order of the saved graph: a head, then its classifier."""
    names = [name for name, part in detector.named_modules() if isinstance(part, nn.Conv2d)]
    body = [name for name in names if not name.startswith(("heads.", "classifiers."))]
    pairs = [f"{part}.{index}" for index in range(len(detector.heads)) for part in ("heads", "classifiers")]
    return [*body, *pairs]


def _graph_convolutions(graph: Mapping[str, Any], folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Weights (O, I, k, k) and biases (O,) of a TensorFlow.js graph's convolutions, in their order."""
    tensors: dict[str, Tensor] = {}
    for group in graph["weightsManifest"]:
        content = b"".join((folder / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            kind = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(content, kind, count, start).reshape(entry["shape"])
            tensors[entry["name"]] = torch.from_numpy(values.astype(np.float32))
            start += count * kind.itemsize
    nodes = graph["modelTopology"]["node"]
    kernels = {node["name"]: node["input"][1] for node in nodes if node["op"] == "Conv2D"}
    sums = [node["input"] for node in nodes if node["op"] == "Add"]
    biases = {convolution: bias for convolution, bias in sums if convolution in kernels}
    # "convolution", "convolution_1", "convolution_2", ...
    ordered = sorted(kernels, key=lambda name: int(name.rpartition("_")[2]) if name[-1].isdigit() else 0)
    return [(tensors[kernels[name]].permute(3, 2, 0, 1), tensors[biases[name]]) for name in ordered]


class VocTeacher:
    """The frozen VOC network: what it believes of a picture, over "everything else" and its 20 names.

    Args:
        folder: holds the network's file and its labels.
    """

    def __init__(self, folder: Path) -> None:
        self.names = voc_names(folder / "pascal_voc_segmentation_labels.txt")[1:]
        self._stem = ConvStem(1, 1, 1, 1 + len(self.names))
        _load_voc(self._stem, folder)
        self._stem.requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Probabilities (B, 21, H/16, W/16) of pixels (B, 3, H, W) in [-1, 1]; row 0 is everything else."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, logits = self._stem.voc_head(self._stem.voc(pixels))
        probabilities: Tensor = logits.float().softmax(dim=1)
        return probabilities


def _starting(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(prefixes)}


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name starts with `prefix`, by the rest of their name."""
    return {name.removeprefix(prefix): value for name, value in _starting(state, prefix).items()}


def _load(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    load_strict(module, {name: value.float() for name, value in state.items()}, source=source)


def outdoor_maps(photos: Iterable[Path], model: Path) -> dict[str, NDArray[np.int8]]:
    """Where a Cityscapes network is sure of sky or plants.

    Args:
        photos: image files.
        model: the quantised network, a `.tflite` file.

    Returns:
        Photo stem -> map (33, 33) of SKY, PLANTS and 0 for unsure, over the whole photo.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # The delegate would not keep the logits, only their argmax.
    network = Interpreter(
        str(model),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    network.allocate_tensors()
    entry = network.get_input_details()[0]
    logits = next(d for d in network.get_tensor_details() if d["name"] == CITYSCAPES_LOGITS)
    step = logits["quantization"][0]
    side = int(entry["shape"][1])
    maps: dict[str, NDArray[np.int8]] = {}
    for path in photos:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
        network.set_tensor(entry["index"], pixels[None])
        network.invoke()
        quantised = network.get_tensor(logits["index"])[0].astype(np.float32)
        probabilities = (torch.from_numpy(quantised) * step).softmax(dim=-1)  # (33, 33, 19)
        maps[path.stem] = _where_sure(probabilities)
    return maps


def _where_sure(probabilities: Tensor) -> NDArray[np.int8]:
    """Map (h, w) of SKY, PLANTS and 0 from the probabilities (h, w, 19) of Cityscapes' classes."""
    materials = np.zeros(probabilities.shape[:2], np.int8)
    materials[(probabilities[..., CITYSCAPES_SKY] > SURE).numpy()] = SKY
    materials[(probabilities[..., CITYSCAPES_PLANTS].sum(dim=-1) > SURE).numpy()] = PLANTS
    return materials


def salience_maps(photos: Iterable[Path], model: Path) -> dict[str, NDArray[np.uint8]]:
    """Where U^2-Net (arXiv 2005.09007) sees the thing that a photo is of.

    Args:
        photos: image files.
        model: the network, `u2net.onnx`.

    Returns:
        `salience_key` of a photo -> map (H, W) at the photo's size, 255 = surely the thing.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    network = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    entry, fused = network.get_inputs()[0].name, network.get_outputs()[0].name
    maps: dict[str, NDArray[np.uint8]] = {}
    for path in photos:
        pixels = Image.fromarray(read_rgb(path))
        small = pixels.resize((SALIENCE_SIDE, SALIENCE_SIDE), Image.Resampling.BILINEAR)
        scaled = (np.asarray(small, np.float32) / 255 - SALIENCE_MEAN) / SALIENCE_STD
        batch = scaled.transpose(2, 0, 1)[None].astype(np.float32)
        salience = np.clip(network.run([fused], {entry: batch})[0][0, 0], 0, 1)
        map_ = Image.fromarray((salience * 255).round().astype(np.uint8))
        maps[salience_key(path)] = np.asarray(map_.resize(pixels.size, Image.Resampling.BILINEAR))
    return maps
