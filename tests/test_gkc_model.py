"""GKC's student and the losses of a batch, from the clone alone."""

import gzip
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mask_toys import random_pyramid, random_text
from open_clip.modified_resnet import ModifiedResNet
from tiny_clip import randomise

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.methods.gkc.official import head_state, projection_state, tower_state
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig, class_logits, name_logits
from ovs_core.training.gkc_model import GkcLossPlan, GkcProjections, Lesson, batch_losses
from ovs_core.training.losses import BatchPart, Target, draw_from
from ovs_core.training.processes import Processes, parts_of
from ovs_core.types import UNLISTED, Vocabulary

DIMS = (16, 32, 64, 128)
JOINT, WIDTH, LAYERS = 32, 64, 2
KEYS = Path(__file__).parent / "data" / "gkc_keys.txt.gz"


def make_head(seed=0):
    pixels = PixelDecoderConfig(DIMS, WIDTH, feedforward=64, layers=1)
    masks = MaskDecoderConfig(JOINT, WIDTH, queries=8, feedforward=64, layers=LAYERS)
    return randomise(GkcHead(GkcHeadConfig(pixels, masks)), seed).requires_grad_(True)


def make_projections(seed=1):
    return randomise(GkcProjections(WIDTH, JOINT, LAYERS), seed).requires_grad_(True)


def make_lesson(seed=0, masks=(2, 3), **changes):
    generator = torch.Generator().manual_seed(seed)

    def unit(count):
        return F.normalize(torch.randn(count, JOINT, generator=generator), dim=1)

    targets = []
    for count in masks:
        squares = torch.zeros(count, 64, 96)
        for place in range(count):
            squares[place, 8 * place : 8 * place + 20, 10 * place : 10 * place + 30] = 1
        targets.append(Target(torch.arange(count) % 3, squares))
    lesson = {
        "targets": targets,
        "plain": unit(4),
        "counts": [2, 1, 1],
        "lists": unit(2 * 5).view(2, 5, JOINT),
        "labels": [torch.arange(count) for count in masks],
        "words": [unit(count) for count in masks],
        "teacher": [unit(count) for count in masks],
        "captions": [unit(count) for count in (2, 1)],
    }
    return Lesson(**{**lesson, **changes})


def make_maps(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, dim, 64 // stride, 96 // stride, generator=generator)
        for dim, stride in zip(DIMS, (4, 8, 16, 32), strict=True)
    ]


def losses(lesson, plan, *, maps=None, part=None, seed=0):
    draw = draw_from(torch.Generator().manual_seed(seed), torch.device("cpu"))
    return batch_losses(
        make_head(), make_projections(), maps or make_maps(), lesson, plan, draw, part=part,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


SMALL = GkcLossPlan(points=32, plain=1.0)


def test_every_prediction_has_every_loss():
    kinds = {"loss_ce", "loss_syn", "loss_mask", "loss_dice", "loss_kd", "loss_text_kd", "loss_grounding"}
    found = losses(make_lesson(), SMALL)
    assert set(found) == {kind + ending for kind in kinds for ending in ("", "_0", "_1")}
    assert all(torch.isfinite(one.value) and one.weight > 0 for one in found.values())


def test_what_is_not_taught_costs_nothing():
    plain = make_lesson(lists=None, teacher=None, captions=None)
    assert {name for name in losses(plain, SMALL) if "_0" not in name and "_1" not in name} == {
        "loss_ce",
        "loss_mask",
        "loss_dice",
    }


def test_a_list_of_plain_names_teaches_what_plain_names_do():
    rows = make_lesson().plain[:3]
    lesson = make_lesson(plain=rows, counts=[1, 1, 1], lists=rows.expand(2, -1, -1))
    lesson = make_lesson(
        plain=rows,
        counts=[1, 1, 1],
        lists=rows.expand(2, -1, -1),
        labels=[one.classes for one in lesson.targets],
    )
    found = losses(lesson, GkcLossPlan(points=32, plain=1.5, diversified=1.5))
    for ending in ("", "_0", "_1"):
        torch.testing.assert_close(found["loss_ce" + ending], found["loss_syn" + ending])


def test_pooling_takes_all_synonyms_together():
    found = {
        how: float(
            losses(make_lesson(), GkcLossPlan(points=32, plain=1.0, pooling=how))["loss_ce"].value.detach()
        )
        for how in (None, "max", "mean")
    }
    assert found[None] == pytest.approx(found["max"])  # the best name counts in any case
    assert found["mean"] != pytest.approx(found["max"])


def test_region_dropout_silences_matched_queries():
    """Dropped, a query says no class: only those without a region are left, each of the weight 0.1."""
    kept = losses(make_lesson(), SMALL)["loss_ce"]
    dropped = losses(make_lesson(), GkcLossPlan(points=32, plain=1.0, region_dropout=1.0))["loss_ce"]
    assert float(kept.weight) == pytest.approx(5 + 0.1 * 11)
    assert float(dropped.weight) == pytest.approx(0.1 * 11)


def test_masks_of_unknown_class_teach_their_shape_alone():
    squares = make_lesson().targets[0].masks
    target = Target(torch.tensor([UNLISTED, UNLISTED]), squares)
    lesson = make_lesson(targets=[target, target], lists=None, masks=(2, 2))
    found = losses(lesson, SMALL)
    assert float(found["loss_ce"].weight) == pytest.approx(0.1 * 12)
    assert float(found["loss_mask"].weight) == 4


def test_gradients_reach_everything_that_is_trained():
    head, projections = make_head(), make_projections()
    maps = [one.requires_grad_(True) for one in make_maps()]
    draw = draw_from(torch.Generator().manual_seed(0), torch.device("cpu"))
    found = batch_losses(head, projections, maps, make_lesson(), SMALL, draw)
    torch.stack([one.value for one in found.values()]).sum().backward()
    for module in (head, projections):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    assert all(one.grad.abs().sum() > 0 for one in maps)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_two_processes_add_up_to_one(form):
    """Grounding compares the pictures of a process, so it is left out."""
    plan = GkcLossPlan(points=32, plain=1.0, grounding=0.0, structure_form=form)
    lesson, maps = make_lesson(), make_maps()
    whole = losses(lesson, plan)
    total = dict.fromkeys(whole, 0.0)
    halves = []
    for rank in (0, 1):
        own = Lesson(
            lesson.targets[rank : rank + 1],
            lesson.plain,
            lesson.counts,
            lesson.lists[rank : rank + 1],
            lesson.labels[rank : rank + 1],
            lesson.words[rank : rank + 1],
            lesson.teacher[rank : rank + 1],
        )
        part = BatchPart([2, 3], [rank])
        halves.append(losses(own, plan, maps=[one[rank : rank + 1] for one in maps], part=part))
    weights = torch.stack([torch.stack([one.weight.float() for one in half.values()]) for half in halves])
    for rank, half in enumerate(halves):
        processes = Processes(rank, 2, add=lambda _: weights.sum(dim=0))
        for name, value in parts_of(half, processes).items():
            total[name] += float(value.detach())
    for name, one in whole.items():
        assert total[name] == pytest.approx(float(one.value.detach()), abs=1e-5), name


# The student.


def test_logits_are_scaled_cosines_of_the_best_name():
    embeddings = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 5.0]])
    scale = torch.tensor(200.0).log()  # not limited, unlike CLIP's
    torch.testing.assert_close(
        name_logits(embeddings, rows, scale),
        200 * torch.tensor([[[1, 0.6, 0], [0, 0.8, 1]]]),
        atol=1e-3,
        rtol=0,
    )
    found = class_logits(embeddings, rows, scale, [2])
    torch.testing.assert_close(found, 200 * torch.tensor([[[1.0, 0], [0.8, 1]]]), atol=1e-3, rtol=0)


def test_head_has_no_class_head_of_another_method():
    names = set(make_head().state_dict())
    assert not [
        name for name in names if name.startswith(("mask_decoder.class_embed", "mask_decoder.mask_pooling"))
    ]
    assert {"class_embed.weight", "embed_proj.weight", "void_embedding", "logit_scale"} <= names


def test_text_of_another_width_is_refused():
    with pytest.raises(ValueError, match="32 wide, got 8"):
        make_head().with_void(torch.zeros(3, 8))
    with pytest.raises(ValueError, match="64 wide"):
        GkcHeadConfig(PixelDecoderConfig(DIMS, 64), MaskDecoderConfig(JOINT, 96))


@pytest.mark.parametrize(
    ("variant", "layers", "joint"), [("rn50", (3, 4, 6, 3), 1024), ("rn101", (3, 4, 23, 3), 512)]
)
def test_official_names_and_shapes(variant, layers, joint):
    """Without weights: what an official checkpoint would hold fits tower, head and projections one to one."""
    state = {}
    for line in gzip.decompress(KEYS.read_bytes()).decode().splitlines():
        if line.startswith(f"{variant}\t"):
            name, shape = line.split("\t")[1:3]
            sides = [int(side) for side in shape.strip("()").split(",") if side.strip()]
            state[name] = torch.empty(sides, device="meta")
    with torch.device("meta"):
        head = GkcHead(GkcHeadConfig(PixelDecoderConfig((256, 512, 1024, 2048)), MaskDecoderConfig(joint)))
        projections = GkcProjections(256, joint, 9)
        visual = ModifiedResNet(layers, output_dim=joint, heads=32, image_size=224, width=64)
    tower = {name: value for name, value in visual.state_dict().items() if not name.startswith("attnpool.")}
    for ours, theirs in (
        (head.state_dict(), head_state(state)),
        (projections.state_dict(), projection_state(state)),
        (tower, tower_state(state)),
    ):
        assert {name: value.shape for name, value in ours.items()} == {
            name: value.shape for name, value in theirs.items()
        }
    known = len(head_state(state)) + len(projection_state(state)) + len(tower_state(state))
    rest = [
        name for name in state if name.startswith(("text_encoder.", "vision_clip.", "criterion.", "empty_"))
    ]
    assert known + len(rest) == len(state)


def test_the_pyramid_of_a_photo_gives_masks_and_words():
    head = make_head().requires_grad_(False)
    pyramid = random_pyramid(padded=(64, 96))
    vocabulary = Vocabulary((("cat", "kitten"), ("grass",)), ("sky",))
    rows = random_text(vocabulary).embeddings
    decoded = head.propose([one[None] for one in pyramid.maps]).decoded
    logits = class_logits(
        head.embeddings(decoded.predictions[-1]), head.with_void(rows), head.logit_scale, [2, 1, 1]
    )
    assert logits.shape == (1, 8, 4)
