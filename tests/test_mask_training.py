"""Training of mask methods: official losses from recorded points, who gets gradients, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from mask_pictures import TWO, toy_tower, two_pictures
from mask_toys import (
    DIMS,
    JOINT,
    conv_clip,
    official_keys,
    random_head,
    random_text,
    reference,
)
from torch import nn

from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.official import our_name
from ovs_core.training.loop import Schedule, _rate, fit
from ovs_core.training.losses import (
    Target,
    class_loss,
    compensation_loss,
    draw_from,
    draw_points,
    mask_aware_loss,
    mask_losses,
    sample_points,
    unsure_points,
)
from ovs_core.training.maft_plus import (
    MaftPlan,
    TrainingTower,
    optimiser_groups,
    prediction_losses,
    schedule,
    training_losses,
    whole_batch,
)
from ovs_core.training.matcher import MatchWeights, dice_costs, entropy_costs, match

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def tensors():
    return {
        name.removeprefix("train."): value for name, value in reference().items() if name.startswith("train.")
    }


@pytest.fixture(scope="module")
def targets(tensors):
    """True masks of the two reference photos, one bit a pixel in the file."""
    shifts = torch.arange(7, -1, -1)
    return [
        Target(
            tensors[f"classes{i}"],
            ((tensors[f"masks{i}"][..., None] >> shifts) & 1).flatten(2).bool(),
        )
        for i in range(2)
    ]


def replay(draws):
    """Recorded random numbers, in order; a shape that was not asked for fails."""
    left = iter(draws)

    def draw(shape):
        found = next(left)
        assert tuple(found.shape) == shape
        return found

    return draw


def recorded(tensors):
    return replay([tensors[f"rand.{i}"] for i in range(4)])


def test_losses_of_a_prediction_equal_the_official_ones(tensors, targets):
    logits, masks = tensors["head.logits9"], tensors["head.masks9"]
    points = draw_points(whole_batch(targets), len(masks[0]), 256, recorded(tensors))
    found = prediction_losses(logits, masks, targets, MaftPlan(points=256), points)
    for name, loss in found.items():
        torch.testing.assert_close(loss.value, tensors[name], **CLOSE)


def test_matches_equal_the_official_ones(tensors, targets):
    draw = recorded(tensors)
    for i, target in enumerate(targets):
        logits, masks = tensors["head.logits9"][i], tensors["head.masks9"][i]
        queries, true = match(logits, masks, target, draw((1, 256, 2)), MatchWeights())
        assert torch.stack([queries, true]).tolist() == tensors[f"match{i}"].tolist()


def test_unsure_points_equal_the_official_ones(tensors):
    masks = torch.cat([tensors["head.masks9"][i][tensors[f"match{i}"][0]] for i in range(2)])
    found = unsure_points(masks, tensors["rand.2"], tensors["rand.3"])
    for one, official in zip(found, tensors["points"], strict=True):
        assert sorted(one.tolist()) == sorted(official.tolist())


def test_mask_aware_loss_equals_the_official_one(tensors, targets):
    found = mask_aware_loss(tensors["ma.out_vocab_logits"][..., :-1], tensors["head.masks9"], targets)
    torch.testing.assert_close(found, tensors["ranking_loss"], **CLOSE)


def test_compensation_equals_the_official_one(tensors):
    found = 0.1 * compensation_loss(tensors["rc.student"], tensors["rc.teacher"])
    torch.testing.assert_close(found, tensors["rc_loss"], **CLOSE)


def test_class_loss_worked_by_hand():
    # One of two queries is matched to class 0; equal logits give ln 3 each, weights 1 and 0.1.
    logits = torch.zeros(1, 2, 3)
    logits[0, 1, 2] = math.log(2)  # "no object": 2 of 4
    found = class_loss(logits, [(torch.tensor([0]), torch.tensor([0]))], 0.1)
    assert found.item() == pytest.approx((math.log(3) + 0.1 * math.log(2)) / 1.1)


def test_mask_losses_worked_by_hand():
    # Logits 0: probability 0.5 everywhere, entropy ln 2, dice 1 - (2 * 0.5 * 2 + 1) / (2 + 2 + 1).
    entropy, dice = mask_losses(torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 2)
    assert entropy.item() == pytest.approx(math.log(2) / 2)
    assert dice.item() == pytest.approx((1 - 3 / 5) / 2)


def test_costs_are_the_losses_of_every_pair():
    generator = torch.Generator().manual_seed(0)
    said, true = torch.randn(3, 7, generator=generator), torch.rand(2, 7, generator=generator).round()
    pairs = [[mask_losses(one[None], other[None], 1) for other in true] for one in said]
    torch.testing.assert_close(
        entropy_costs(said, true), torch.tensor([[p[0] for p in row] for row in pairs])
    )
    torch.testing.assert_close(dice_costs(said, true), torch.tensor([[p[1] for p in row] for row in pairs]))


def test_points_are_read_between_cells():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    points = torch.tensor([[[0.5, 0.5], [0.25, 0.25], [0.75, 0.5]]])
    assert sample_points(maps, points)[0].tolist() == pytest.approx([2.5, 1.0, 3.0])


def test_each_true_mask_gets_a_query_of_its_own():
    masks = torch.full((3, 4, 4), -9.0)
    masks[0, :, :2], masks[2, :, 2:] = 9, 9
    truth = torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[0, :, 4:], truth[1, :, :4] = True, True
    target = Target(torch.tensor([0, 1]), truth)
    draw = draw_from(torch.Generator().manual_seed(0), torch.device("cpu"))
    queries, true = match(torch.zeros(3, 3), masks, target, draw((1, 64, 2)), MatchWeights())
    assert (queries.tolist(), true.tolist()) == ([0, 2], [1, 0])


@pytest.mark.parametrize(
    ("weights", "winner"), [((1, 0, 0), 2), ((0, 1, 0), 0), ((0, 0, 1), 1)], ids=["class", "mask", "dice"]
)
def test_every_cost_can_decide(weights, winner):
    # Truth: the left quarter. Query 0 is unsure everywhere and a little right, query 1 covers the left half
    # for sure (good overlap, dear mistakes), query 2 has the class and nothing else.
    truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    truth[:, :, :2] = True
    masks = torch.full((3, 8, 8), -0.5)
    masks[1], masks[1, :, :4], masks[2] = -20, 20, 20
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    target = Target(torch.tensor([0]), truth)
    draw = draw_from(torch.Generator().manual_seed(0), torch.device("cpu"))
    queries, _ = match(logits, masks, target, draw((1, 256, 2)), MatchWeights(*weights))
    assert queries.tolist() == [winner]


def test_mask_aware_loss_worked_by_hand():
    # Both queries give class 0 one half; IoU with the true mask is about 1 and 0, stretched to 1 and 0.
    masks = torch.tensor([[[[9.0, 9.0]], [[-9.0, -9.0]]]])
    target = Target(torch.tensor([0]), torch.ones(1, 1, 2))
    found = mask_aware_loss(torch.zeros(1, 2, 2), masks, [target])
    assert found.item() == pytest.approx(0.5 * 0.5**2, rel=1e-3)


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (4, 7)])
def test_compensation_of_other_shapes(size):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(2, 3, *size, generator=generator, requires_grad=True)
    assert compensation_loss(student, student.detach()).item() == 0
    compensation_loss(student, student.detach() + 1).backward()
    assert student.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="at least 4 cells wide"):
        compensation_loss(torch.zeros(1, 2, 8, 3), torch.zeros(1, 2, 8, 3))


def test_cells_of_portrait_maps_come_from_the_width_before_squaring():
    maps = torch.rand(1, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    square = F.interpolate(maps, size=(8, 8), mode="bilinear", align_corners=False)
    pooled = [F.avg_pool2d(square, cell) for cell in (4, 2, 1)]  # 2, 4 and 8 cells a side
    lines = torch.cat([one.sum(dim=axis).flatten() for one in pooled for axis in (2, 3)])
    found = compensation_loss(maps, torch.zeros_like(maps))
    torch.testing.assert_close(found, F.smooth_l1_loss(lines, torch.zeros_like(lines)))


def test_targets_must_fit():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3, 4, 4\)"):
        Target(torch.zeros(2, dtype=torch.long), torch.zeros(3, 4, 4))


def test_gradients_reach_what_the_official_code_trains_and_nothing_else():
    student, head = conv_clip(seed=0), random_head().requires_grad_(True)
    for part in (student.visual.trunk.stem, student.visual.trunk.stages):
        part.requires_grad_(True)
    pixels, targets = two_pictures()
    losses = training_losses(
        head,
        toy_tower(student, conv_clip(seed=1)),
        pixels,
        random_text(TWO).embeddings,
        (2, 1),
        targets,
        MaftPlan(points=64),
        draw_from(torch.Generator().manual_seed(0), torch.device("cpu")),
    )
    endings = ["", *(f"_{i}" for i in range(9))]
    assert set(losses) == {f"loss_{part}{e}" for part in ("ce", "mask", "dice") for e in endings} | {
        "ranking_loss",
        "rc_loss",
    }
    torch.stack(list(losses.values())).sum().backward()
    ours = dict(head.named_parameters())
    ours |= {f"backbone.clip_model.{name}": value for name, value in student.named_parameters()}
    reached = {name for name, value in ours.items() if value.grad is not None and value.grad.any()}
    wanted = {
        name if name.startswith("backbone.") else our_name(name)
        for name, (_, trained) in official_keys("large").items()
        if trained
    }
    assert reached == wanted & set(ours)
    assert set(head.state_dict()) <= wanted


def test_who_learns_from_which_loss():
    student, head = conv_clip(seed=0), random_head().requires_grad_(True)
    student.visual.trunk.stages.requires_grad_(True)
    pixels, targets = two_pictures()
    draw = draw_from(torch.Generator().manual_seed(0), torch.device("cpu"))
    tower = toy_tower(student, conv_clip(seed=1))
    text, plan = random_text(TWO).embeddings, MaftPlan(points=64)
    parts = {"tower": student.visual.trunk.stages, "transfer": head.cdt, "decoder": head.mask_decoder}
    expected = {"loss_mask": {"decoder"}, "ranking_loss": {"tower", "transfer"}, "rc_loss": {"tower"}}
    for name, learners in expected.items():
        losses = training_losses(head, tower, pixels, text, (2, 1), targets, plan, draw)
        head.zero_grad()
        student.zero_grad()
        losses[name].backward()
        found = {
            part
            for part, module in parts.items()
            if any(value.grad is not None and value.grad.any() for value in module.parameters())
        }
        assert found == learners, name


def test_groups_and_schedule_are_the_official_ones():
    head, trunk = random_head().requires_grad_(True), conv_clip().visual.trunk.requires_grad_(True)
    groups = optimiser_groups(head, [trunk.stem, trunk.stages], MaftPlan())
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (1e-4, 2e-5),
        (1e-4, 0.0),
        (1e-5, 2e-5),
        (1e-5, 0.0),
    ]
    held = [id(tensor) for group in groups for tensor in group["params"]]
    trained = [*head.parameters(), *trunk.stem.parameters(), *trunk.stages.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(tensor) for tensor in trained}
    assert id(head.mask_decoder.query_feat.weight) in {id(tensor) for tensor in groups[1]["params"]}
    plan = schedule(MaftPlan(), 55_000)
    assert _rate(0, plan) == 1
    assert _rate(27_500, plan) == pytest.approx(0.5**0.9)
    assert (plan.seed, plan.clip) == (123, 0.01)
    assert _rate(5, Schedule(10, warmup=0)) == pytest.approx(0.5)  # half a cosine, as before


class Toy(nn.Module):
    """A head and four maps of the tower's widths made by plain convolutions."""

    def __init__(self):
        super().__init__()
        pixels = PixelDecoderConfig(DIMS, width=64, feedforward=64, layers=1)
        masks = MaskDecoderConfig(JOINT, width=64, queries=4, feedforward=64, layers=3)
        self.head = MaskHead(MaskHeadConfig(pixels, masks))
        self.maps = nn.ModuleList(
            nn.Conv2d(3, dim, stride, stride) for dim, stride in zip(DIMS, (4, 8, 16, 32), strict=True)
        )

    def pyramid(self, pixels):
        maps = tuple(layer(pixels) for layer in self.maps)
        return maps, maps[-1]


def test_it_learns_two_pictures_in_seconds(tmp_path):
    torch.manual_seed(0)
    toy = Toy()
    pixels, targets = two_pictures(64, 96)
    text = random_text(TWO).embeddings
    tower = TrainingTower(toy.pyramid, None, lambda vectors: vectors, torch.zeros(()))
    plan = MaftPlan(points=128, mask_aware=0, rate=1e-3, clip=1.0)

    def step_loss(step, rng):
        draw = draw_from(None, torch.device("cpu"))
        return training_losses(toy.head, tower, pixels, text, (2, 1), targets, plan, draw)

    steps = schedule(plan, 25, seed=0)
    fit(toy, [], step_loss, steps, tmp_path, groups=optimiser_groups(toy.head, [], plan))
    with torch.no_grad():
        maps, _ = toy.pyramid(pixels)
        decoded = toy.head.pixel_decoder(maps)
        last = toy.head.mask_decoder(decoded).predictions[-1]
        logits = toy.head.in_vocabulary(last, decoded, toy.head.with_void(text), (2, 1))
    for i, target in enumerate(targets):
        shares = logits[i].softmax(dim=1)
        best = shares[:, i].argmax()
        assert shares[best].argmax() == i
        found = F.interpolate(last.masks[i : i + 1], size=(64, 96), mode="bilinear")[0, best] > 0
        overlap = (found & target.masks[0]).sum() / (found | target.masks[0]).sum()
        assert overlap > 0.8
