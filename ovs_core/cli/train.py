"""Make the weights that are shipped: `python -m ovs_core.cli.train METHOD --data NAME=DIR ... --out DIR`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ovs_core.checkpoints import WeightStore
from ovs_core.cli.arguments import EXIT_BAD_INPUT, EXIT_INTERRUPTED, OneLineParser
from ovs_core.cli.streams import lasting_output
from ovs_core.devices import DEVICES, Compute
from ovs_core.encoders.loading import LoadedModel
from ovs_core.encoders.towers import ENCODERS, Tower, build_tower
from ovs_core.folders import without_tilde
from ovs_core.methods.ldvc.model import MethodName
from ovs_core.methods.mvp_seg.contexts import load_contexts
from ovs_core.methods.mvp_seg.model import ContextText, build_mvp_seg
from ovs_core.options import lookup
from ovs_core.training.fc_clip import MaskSources, MaskTower, train_fc_clip
from ovs_core.training.gkc import gkc_plan, train_gkc
from ovs_core.training.gkc_photos import ResNetTower, gkc_photo_plan, train_gkc_photos
from ovs_core.training.ldvc import prompted_plan, towers_of, train_prompted
from ovs_core.training.mask_plans import FcClipPlan, TuningPlan
from ovs_core.training.mask_tuning import train_maft_plus
from ovs_core.training.mvp_seg import mvp_seg_plan, train_mvp_seg
from ovs_core.training.mvp_seg_plus import lessons_of, plus_plan, train_mvp_seg_plus
from ovs_core.training.plans import plan_from_json
from ovs_core.training.processes import Processes, started
from ovs_core.training.split_photos import Photos, open_photos
from ovs_core.vocabulary.splits import SPLITS

_PART = "train2017"  # sub-folder of images and masks that is trained on


@dataclass(frozen=True)
class _Place:
    """Where training runs: a device, the processes that share the work, and where weights are."""

    device: torch.device
    processes: Processes
    store: WeightStore


@dataclass(frozen=True)
class _Recipe:
    """One thing that can be trained.

    Attributes:
        data: names that --data may give.
        needed: those it must give.
        one_of: of these exactly one.
        prepare: from the recipe's values, the folders and the place, checked, the work to do in a folder.
        anywhere: it runs on a GPU and in several processes too.
    """

    data: tuple[str, ...]
    needed: tuple[str, ...]
    one_of: tuple[str, ...]
    prepare: Callable[[Mapping[str, Any], Mapping[str, Path], _Place], Callable[[Path], Path]]
    anywhere: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 2 with one line on stderr, or 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    recipe = _RECIPES[arguments.method]
    try:
        values, folders = _values(arguments.config), _folders(arguments.data, recipe)
        device = _device(arguments.device, arguments.method)
        with started(device, os.environ) as (processes, here):
            if not processes.first:
                logging.disable(logging.INFO)
            place = _Place(here, processes, WeightStore(arguments.weights_dir, offline=True))
            path = recipe.prepare(values, folders, place)(arguments.out)
            if processes.first:
                print(path)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"train: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except NotImplementedError as error:  # torch on mps long lacked gradients of a few operations
        reason = str(error).splitlines()[0] if str(error) else "an operation is missing"
        print(f"train: this device cannot do all of it ({reason}); use --device cpu", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _device(asked: str, method: str) -> str:
    """The device to train on; recipes that know the CPU alone get that.

    Raises:
        ValueError: if such a recipe is asked to run elsewhere, or in several processes.
    """
    if _RECIPES[method].anywhere:
        return asked
    if asked not in ("auto", "cpu") or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        able = ", ".join(name for name, recipe in _RECIPES.items() if recipe.anywhere)
        raise ValueError(f"{method} trains on the CPU in one process; only {able} use GPUs.")
    return "cpu"


def _prepare_mvp_seg(
    values: Mapping[str, Any], folders: Mapping[str, Path], place: _Place
) -> Callable[[Path], Path]:
    plan = mvp_seg_plan(values)
    photos = _photos(folders)
    tower, loaded = _tower(plan.encoder, place)
    vision = tower.vision

    def work(out: Path) -> Path:
        return train_mvp_seg(vision, loaded.model, _sha256(tower), photos, plan, out)

    return work


def _prepare_plus(
    values: Mapping[str, Any], folders: Mapping[str, Path], place: _Place
) -> Callable[[Path], Path]:
    values = dict(values)
    encoder = values.pop("encoder", "mini")
    plan = plus_plan(values)
    lessons = lessons_of(_photos(folders))
    tower, _ = _tower(encoder, place)
    contexts = load_contexts(folders["contexts"] / "mvp_seg.safetensors", _sha256(tower))
    method = build_mvp_seg(tower.vision.visual, tower.text, contexts)
    text = ContextText(tower.text, contexts)
    return lambda out: train_mvp_seg_plus(tower.vision, method, text, lessons, plan, out)


def _prepare_fc_clip(
    values: Mapping[str, Any], folders: Mapping[str, Path], place: _Place
) -> Callable[[Path], Path]:
    plan = plan_from_json(FcClipPlan(), values)
    sources, start = _mask_folders(folders)
    tower = _mask_tower(place)
    return lambda out: train_fc_clip(tower, sources, plan, out, start=start, processes=place.processes)


def _prepare_maft_plus(
    values: Mapping[str, Any], folders: Mapping[str, Path], place: _Place
) -> Callable[[Path], Path]:
    plan = plan_from_json(TuningPlan(), values)
    sources, _ = _mask_folders(folders)
    start, tower = folders["head"] / _HEAD, _mask_tower(place)
    return lambda out: train_maft_plus(tower, sources, start, plan, out, processes=place.processes)


def _prepare_prompted(
    method: MethodName, values: Mapping[str, Any], folders: Mapping[str, Path], place: _Place
) -> Callable[[Path], Path]:
    plan = prompted_plan(values, method)
    (name,) = folders
    photos = open_photos(folders[name], SPLITS[name], _PART)
    tower, loaded = _tower(plan.encoder, place)
    towers = towers_of(tower.vision, loaded.model, _sha256(tower))
    return lambda out: train_prompted(towers, photos, plan, out, processes=place.processes)


def _prepare_gkc(
    values: Mapping[str, Any], folders: Mapping[str, Path], place: _Place
) -> Callable[[Path], Path]:
    """On the embedded model a head; on "rn50_openai" or "rn101_openai" the official recipe, tower and all."""
    values = dict(values)
    encoder = values.pop("encoder", "mini")
    if encoder == "mini":
        plan = gkc_plan(values)
        mask_tower = _mask_tower(place)
        sources, start = _mask_folders(folders)
        return lambda out: train_gkc(mask_tower, sources, plan, out, start=start, processes=place.processes)
    photo_plan = gkc_photo_plan(values)
    tower, _ = _tower(encoder, place)
    if tower.resnet is None:
        raise ValueError(f"gkc is trained on mini, rn50_openai or rn101_openai; got {encoder!r}.")
    resnet = ResNetTower(tower.resnet.visual, tower.text, tower.model.logit_scale.detach(), _sha256(tower))
    return lambda out: train_gkc_photos(resnet, folders["coco"], photo_plan, out, processes=place.processes)


def _mask_folders(folders: Mapping[str, Path]) -> tuple[MaskSources, Path | None]:
    """Folders of photos, and the head to start from if there is one."""
    sources = MaskSources(folders["coco"], folders.get("pets"), folders.get("camvid"))
    return sources, folders["head"] / _HEAD if "head" in folders else None


_PHOTOS = tuple(SPLITS)
_MASK_DATA = ("head", "coco", "pets", "camvid")
_HEAD = "fc_clip.safetensors"  # in the folder "head"
_RECIPES: Mapping[str, _Recipe] = MappingProxyType(
    {
        "mvp-seg": _Recipe(_PHOTOS, (), _PHOTOS, _prepare_mvp_seg),
        "mvp-seg-plus": _Recipe(("contexts", *_PHOTOS), ("contexts",), _PHOTOS, _prepare_plus),
        "fc-clip": _Recipe(_MASK_DATA, ("coco",), (), _prepare_fc_clip, anywhere=True),
        "maft-plus": _Recipe(_MASK_DATA, ("head", "coco"), (), _prepare_maft_plus, anywhere=True),
        "zegclip": _Recipe(_PHOTOS, (), _PHOTOS, partial(_prepare_prompted, "zegclip"), anywhere=True),
        "ldvc": _Recipe(_PHOTOS, (), _PHOTOS, partial(_prepare_prompted, "ldvc"), anywhere=True),
        "gkc": _Recipe(_MASK_DATA, ("coco",), (), _prepare_gkc, anywhere=True),
    }
)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="ovs-lens train", description="Make the weights that are shipped.")
    add = parser.add_argument
    add(
        "method",
        choices=tuple(_RECIPES),
        help="what to train: mvp-seg learned contexts, mvp-seg-plus their student, fc-clip a mask head, "
        "maft-plus the tower tuned for that head, zegclip and ldvc decoders and prompts, "
        "gkc a head that needs no CLIP at inference; "
        "`python -m recipes.mini` makes the towers themselves",
    )
    add("--config", type=Path, metavar="FILE", help="recipe as JSON; default: the one of the shipped weights")
    known = "; ".join(f"{name}: {', '.join(recipe.data)}" for name, recipe in _RECIPES.items())
    add(
        "--data",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help=f"once per folder; names of {known}; mvp-seg, zegclip and ldvc need one data set, which also "
        "names its split of seen and unseen classes, fc-clip coco, maft-plus coco and head, the folder of "
        "fc_clip.safetensors, which fc-clip and gkc may start from",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="working folder; a stopped run goes on where it was",
    )
    add("--weights-dir", type=Path, metavar="DIR", help="folder to look for the tower's weights in first")
    able = ", ".join(name for name, recipe in _RECIPES.items() if recipe.anywhere)
    add(
        "--device",
        choices=DEVICES,
        default="auto",
        help=f"for {able}; the others train on the CPU; default: %(default)s",
    )
    return parser


def _values(config: Path | None) -> Mapping[str, Any]:
    """Read the recipe; raises ValueError or OSError with one sentence."""
    if config is None:
        return {}
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"--config {config} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"--config {config} must hold a JSON object.")  # noqa: TRY004 (it is the user's file)
    return values


def _folders(pairs: Sequence[str], recipe: _Recipe) -> dict[str, Path]:
    """Read NAME=DIR pairs; raises ValueError with one sentence."""
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not separator or name not in recipe.data:
            raise ValueError(f"--data {pair!r} is not NAME=DIR with NAME one of {', '.join(recipe.data)}.")
        folders[name] = without_tilde(folder)
        if not folders[name].is_dir():
            raise ValueError(f"--data {name}: {folder} is not a folder.")
    missing = [name for name in recipe.needed if name not in folders]
    if missing:
        raise ValueError(f"--data is needed for {', '.join(missing)}.")
    if recipe.one_of and len(set(recipe.one_of) & set(folders)) != 1:
        raise ValueError(f"--data is needed for exactly one of {', '.join(recipe.one_of)}.")
    return folders


def _photos(folders: Mapping[str, Path]) -> Photos:
    """Training photos of the one data set that was given, with its split."""
    (name,) = set(SPLITS) & set(folders)
    return open_photos(folders[name], SPLITS[name], _PART)


def _tower(encoder: str, place: _Place) -> tuple[Tower, LoadedModel]:
    """A pair of towers on a device in float32, from weights that are on this machine."""
    spec = lookup("encoder", ENCODERS, encoder)
    loaded = spec.load(place.store)
    return build_tower(spec, loaded, Compute(place.device, torch.float32), None), loaded


def _mask_tower(place: _Place) -> MaskTower:
    """The embedded model, as mask heads are trained on it."""
    tower, _ = _tower("mini", place)
    return MaskTower(tower.vision.visual, tower.text, tower.model.logit_scale.detach(), _sha256(tower))


def _sha256(tower: Tower) -> str:
    """SHA-256 of the file that stands for the tower."""
    return next(iter(tower.weights.values()))


if __name__ == "__main__":
    with lasting_output():
        sys.exit(main())
