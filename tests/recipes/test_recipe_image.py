"""The image recipe: typed vocabularies, the loss by hand, a start at the teachers, their files and maps."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from training_toys import CONFIG, JOINT_WIDTH, make_teachers, save_photo

from ovs_core.checkpoints import CheckpointError
from ovs_core.encoders.clip_vit import tokens_before_last_block
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.upsampling import bilinear_weights
from ovs_core.training.data import Sample
from ovs_core.training.loop import Schedule
from ovs_core.types import IGNORE, UNLISTED
from ovs_core.vocabulary import parse_vocabulary
from recipes.mini.coco import PLANTS, SKY
from recipes.mini.image import VOC_TRUST, Batches, dense_embeddings, start_image_tower, train_image
from recipes.mini.losses import HINT_WEIGHT, REST_WEIGHT, belief_loss, sample_loss, typed_rows
from recipes.mini.plan import ImagePlan
from recipes.mini.teachers import VocTeacher, outdoor_maps, salience_maps, start_stem


def sample_of(labels, groups, hints=(), absent=(), placed=True):
    """A sample whose label grid, at stride 4, is `labels`."""
    labels = np.repeat(np.repeat(np.asarray(labels, np.int16), 4, axis=0), 4, axis=1)
    return Sample(np.zeros((*labels.shape, 3), np.uint8), labels, groups, absent, hints, placed)


def log_probabilities(rows):
    """Logits whose soft-max over rows is the share given, (S, 1, w) from rows of (S, w)."""
    return torch.tensor(rows).log()[:, None, :]


def test_placed_loss_by_hand():
    """Four pixels: dog, dog, other, unknown; rows dog, puppy, other."""
    sample = sample_of([[0, 0, UNLISTED, IGNORE]], (("dog", "puppy"),))
    logits = log_probabilities([[0.5, 0.2, 0.3, 0.1], [0.3, 0.2, 0.3, 0.1], [0.2, 0.6, 0.4, 0.8]])
    dog = -(math.log(0.8) + math.log(0.4)) / 2  # either name will do
    other = -math.log(0.4)
    # Half by pixels (2/4 and 1/4), half by class: the known 3/4 shared between two.
    expected = dog * (0.25 + 0.1875) + other * (0.125 + 0.1875)
    loss = sample_loss(logits, torch.tensor([1, 1, 0]), 0, sample)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_hint_may_explain_what_no_mask_claims():
    """One pixel of other; rows dog, grass (hint), hat (distractor), other: grass or other is right."""
    sample = sample_of([[UNLISTED]], (("dog",),), hints=("grass",))
    logits = log_probabilities([[0.1], [0.3], [0.4], [0.2]])
    loss = sample_loss(logits, torch.tensor([1, 2, 3, 0]), 1, sample)
    assert loss.item() == pytest.approx(-math.log(0.5), abs=1e-6)
    loss = sample_loss(logits, torch.tensor([1, 2, 3, 0]), 0, sample)
    assert loss.item() == pytest.approx(-math.log(0.2), abs=1e-6)


def test_hint_loss_by_hand():
    """25 free pixels: a hint is right for its best 12 %, which is 3; each hint counts alike."""
    shares = np.full((4, 25), 0.1)  # dog, grass, sky, other
    shares[1, :3], shares[2, 10:13] = 0.6, 0.4
    shares[3] = 1 - shares[:3].sum(axis=0)
    sample = sample_of([[UNLISTED] * 25], (("dog",),), hints=("grass", "sky"))
    loss = sample_loss(log_probabilities(shares.tolist()), torch.tensor([1, 2, 3, 0]), 2, sample)
    placed = -math.log(0.9)  # grass, sky and other together, everywhere
    hints = -(math.log(0.6) + math.log(0.4)) / 2
    assert loss.item() == pytest.approx(placed + HINT_WEIGHT * hints, abs=1e-6)


def test_few_free_pixels_teach_no_hint():
    sample = sample_of([[UNLISTED] * 19], (("dog",),), hints=("grass",))
    shares = [[0.1] * 19, [0.3] * 19, [0.6] * 19]
    loss = sample_loss(log_probabilities(shares), torch.tensor([1, 2, 0]), 1, sample)
    assert loss.item() == pytest.approx(-math.log(0.9), abs=1e-6)


def test_tile_loss_by_hand():
    """Twenty pixels of one thing, its share falling from left to right; 35 % are it, 12 % are not."""
    own = np.linspace(0.9, 0.1, 20)
    sample = sample_of([[0] * 20], (("dog",),), placed=False)
    logits = log_probabilities([(own * 0.75).tolist(), (own * 0.25).tolist(), (1 - own).tolist()])
    loss = sample_loss(logits, torch.tensor([1, 1, 0]), 0, sample)
    sure = -np.log(own[:7]).mean()
    not_it = -REST_WEIGHT * np.log(1 - own[-2:]).mean()
    assert loss.item() == pytest.approx((sure + not_it) / 2, abs=1e-5)


def test_a_picture_of_which_nothing_is_known_teaches_nothing():
    logits = torch.randn(2, 1, 3, requires_grad=True)
    loss = sample_loss(logits, torch.tensor([1, 0]), 0, sample_of([[IGNORE] * 3], (("dog",),)))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_typed_rows_stand_in_order():
    sample = sample_of([[0]], (("dog", "puppy"), ("sofa",)), hints=("grass", "sofa"), absent=("hat", "cup"))
    typed = [typed_rows(sample, np.random.default_rng(seed)) for seed in range(60)]
    for rows, row_label, hints, _ in typed:
        assert rows[:3] == ("dog", "puppy", "sofa")
        assert row_label[:3] == (1, 1, 2)
        behind = 3 + hints
        assert rows[3:behind] == ("grass",)[:hints]  # sofa is said already
        assert {rows[i] for i, k in enumerate(row_label) if k > 2 + hints} <= {"hat", "cup"}
        assert "background" in rows
        assert row_label[-1] == 0
    assert {one.hints for one in typed} == {0, 1}
    assert {max(one.row_label) for one in typed} == {2, 3, 4, 5}


def test_a_picture_without_names_is_asked_for_everything_else():
    rows, row_label, hints, _ = typed_rows(sample_of([[UNLISTED]], ()), np.random.default_rng(0))
    assert (rows[0], row_label[0], hints) == ("nothing", 1, 0)
    assert set(row_label[1:]) == {0}


def test_batches_depend_on_the_step_alone():
    sources = {"dots": lambda rng: sample_of(np.full((8, 12), rng.integers(2)), (("dot",), ("dash",)))}
    plan = ImagePlan(side=32, short_side=(32, 40), batch=3, source_weights=(("dots", 1.0),))
    with Batches(sources, plan, 7) as batches:
        in_order = [batches(step) for step in (0, 1, 2)]
    with Batches(sources, plan, 7) as batches:
        jumped = [batches(2), batches(0)]
    for one, same in ((in_order[2], jumped[0]), (in_order[0], jumped[1])):
        assert len(one) == 3
        for a, b in zip(one, same, strict=True):
            np.testing.assert_array_equal(a.pixels, b.pixels)
            np.testing.assert_array_equal(a.labels, b.labels)
    assert not np.array_equal(in_order[0][0].pixels, in_order[1][0].pixels)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    return folder, make_teachers(folder)


@pytest.fixture
def model():
    torch.manual_seed(1)
    return build_mini(CONFIG)


def word_table_of(width):
    """As many unit rows as names, the same each time."""

    def words(names):
        generator = torch.Generator().manual_seed(len(names))
        return F.normalize(torch.randn(len(names), width, generator=generator), dim=1)

    return words


def word_rows(seed):
    rows = F.normalize(torch.randn(3, JOINT_WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)
    rows[0] = 0  # background
    return rows


def test_stem_starts_with_the_teachers_tensors(teachers, model):
    folder, stem = teachers
    own = model.visual.conv1
    mix = own.mix.weight.clone()
    start_stem(own, folder)
    loaded = own.state_dict()
    for name, value in stem.state_dict().items():
        if not name.startswith(("mix.", "imagenet_words.", "voc_words.", "shares.")):
            torch.testing.assert_close(loaded[name], value, rtol=0, atol=0)
    assert torch.equal(own.mix.weight, mix)


def test_missing_teacher_is_named(tmp_path, model):
    with pytest.raises(CheckpointError, match="mobilenetv2_imagenet_classifier"):
        start_stem(model.visual.conv1, tmp_path)


def test_before_training_a_patch_says_what_its_heads_believe(teachers, model):
    """Under the maskclip rule: a mixed word embedding, but for norms and the constant of the block before."""
    imagenet, voc = word_rows(1), word_rows(2)
    start_image_tower(model, teachers[0], imagenet, voc)
    pixels = torch.rand(1, 3, 48, 80) * 2 - 1
    stem, visual = model.visual.conv1, model.visual
    with torch.no_grad():
        visual.positional_embedding.zero_()
        stem.mix.weight[JOINT_WIDTH:] = 0  # leave the words alone in the token
        entering = tokens_before_last_block(visual, pixels)
        found = dense_embeddings(model, entering, (3, 5), "maskclip")[0, 1:]
        features = stem.imagenet(pixels)
        belief = stem.imagenet_classifier(F.relu6(stem.imagenet_top(features))).softmax(dim=1)
        trunk = stem.voc(pixels)
        pooled = F.relu(stem.voc_pooling(trunk.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, 3, 5)
        joined = torch.cat([pooled, F.relu(stem.voc_aspp(trunk))], dim=1)
        voc_belief = stem.voc_classifier(F.relu(stem.voc_projection(joined))).softmax(dim=1)
    words = belief[0].flatten(1).T @ imagenet + VOC_TRUST * (voc_belief[0].flatten(1).T @ voc)  # (15, D)
    token = torch.cat([words, torch.zeros(15, 16 - JOINT_WIDTH)], dim=1)  # (15, C)
    constant = visual.transformer.resblocks[0].mlp.c_proj.bias
    token = F.layer_norm(F.layer_norm(token, (16,)) + constant, (16,))
    expected = F.normalize(token[:, :JOINT_WIDTH], dim=1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert F.cosine_similarity(found, words).min() > 0.8


def test_before_training_the_first_blocks_add_one_constant(teachers, model):
    start_image_tower(model, teachers[0], word_rows(1), word_rows(2))
    x = torch.randn(1, 5, 16)
    with torch.no_grad():
        block = model.visual.transformer.resblocks[0]
        torch.testing.assert_close(block(x), x + block.mlp.c_proj.bias)
    assert model.logit_scale.exp().item() == pytest.approx(20)


def test_before_training_finer_positions_interpolate(teachers, model):
    start_image_tower(model, teachers[0], word_rows(1), word_rows(2))
    with torch.no_grad():
        _, weights = model.visual.conv1.with_upsampling(torch.rand(1, 3, 32, 48) * 2 - 1)
    expected = bilinear_weights().repeat(1, 2, 3)
    torch.testing.assert_close(weights[0], expected)


def test_first_blocks_learn_at_every_whole_step_only(teachers, model, tmp_path):
    start_image_tower(model, teachers[0], word_rows(1), word_rows(2))
    labels = np.zeros((24, 32), int)
    sources = {"masks": lambda rng: sample_of(labels, (("dog",),), absent=("hat",))}
    plan = ImagePlan(64, (64, 80), 1, (("masks", 1.0),), 1e-3, 1e-3, whole_every=2)
    words = word_table_of(JOINT_WIDTH)
    first, later = model.visual.conv1.imagenet.blocks[2], model.visual.conv1.imagenet.blocks[9]

    def moved(steps, seed):
        before = [block.project.weight.detach().clone() for block in (first, later)]
        train_image(model, words, sources, plan, Schedule(steps=steps, warmup=1, seed=seed), tmp_path)
        after = [block.project.weight for block in (first, later)]
        return [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]

    assert moved(1, seed=0) == [True, True]  # step 0 is a whole one
    gradients = []
    own = Schedule(steps=2, warmup=1, seed=1)
    first.project.weight.register_hook(lambda _: gradients.append("first"))
    later.project.weight.register_hook(lambda _: gradients.append("later"))
    train_image(model, words, sources, plan, own, tmp_path)
    assert sorted(gradients) == ["first", "later", "later"]


@pytest.mark.parametrize("trunk_rate", [0.0, 1e-3])
def test_training_moves_the_image_side_alone(teachers, model, tmp_path, trunk_rate):
    start_image_tower(model, teachers[0], word_rows(1), word_rows(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labels = np.full((24, 32), UNLISTED)
    labels[:, :16] = 0
    sources = {
        "masks": lambda rng: sample_of(labels, (("dog",),), absent=("hat",)),
        "tiles": lambda rng: sample_of(np.zeros((16, 16), int), (("cat",),), placed=False),
    }
    plan = ImagePlan(64, (64, 80), 2, (("masks", 0.5), ("tiles", 0.5)), 1e-3, trunk_rate)
    words = word_table_of(JOINT_WIDTH)
    train_image(model, words, sources, plan, Schedule(steps=2, warmup=1), tmp_path)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith(("visual.", "logit_scale")) for name in moved)
    assert {"visual.proj", "visual.conv1.mix.weight", "visual.class_embedding", "logit_scale"} <= moved
    trunk = {name for name in moved if name.startswith(("visual.conv1.imagenet.", "visual.conv1.voc."))}
    assert bool(trunk) == (trunk_rate > 0)


def test_outdoor_maps_mark_what_the_network_is_sure_of(tmp_path, monkeypatch):
    """Quantised logits, step 0.5: sky sure, plants sure only together, plants not sure enough."""
    logits = np.zeros((1, 1, 3, 19), np.uint8)
    logits[0, 0, 0, 10] = 20  # 10 against 0: nearly 1
    logits[0, 0, 1, [8, 9]] = 16  # two times 8
    logits[0, 0, 2, 8] = 4  # 2 against eighteen zeros: 0.29
    given = []

    class Network:
        def __init__(self, path, **_):
            assert path == "teacher.tflite"

        def allocate_tensors(self):
            pass

        def invoke(self):
            pass

        def get_input_details(self):
            return [{"index": 0, "shape": (1, 6, 6, 3)}]

        def get_tensor_details(self):
            return [
                {"name": "other", "index": 1, "quantization": (9.0, 0)},
                {"name": "ResizeBilinear", "index": 2, "quantization": (0.5, 0)},
            ]

        def set_tensor(self, index, value):
            given.append((index, value.shape))

        def get_tensor(self, index):
            assert index == 2
            return logits

    resolvers = SimpleNamespace(BUILTIN_WITHOUT_DEFAULT_DELEGATES=1)
    fake = SimpleNamespace(Interpreter=Network, OpResolverType=resolvers)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace(interpreter=fake))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", fake)
    save_photo(tmp_path / "beach.jpg", 20, 30)
    maps = outdoor_maps([tmp_path / "beach.jpg"], Path("teacher.tflite"))
    assert given == [(0, (1, 6, 6, 3))]
    assert maps["beach"].tolist() == [[SKY, PLANTS, 0]]


def test_belief_loss_by_hand():
    """Three tokens, the teacher's one name. Row 0 counts; row 1 has a mask where the teacher sees nothing."""
    vocabulary = parse_vocabulary("dog")
    rows = F.one_hot(torch.tensor(vocabulary.row_label), 2).float()  # (S, 2), second: dog
    others = float((rows[:, 0] == 1).sum())
    logits = torch.tensor([[[0.0, 2.0], [5.0, 0.0], [0.0, 0.0]]])  # (1, 3, 2)
    believed = torch.tensor([[0.25, 0.9, 0.6], [0.75, 0.1, 0.4]])[None, :, None, :]  # (1, 2, 1, 3)
    labels = np.full((16, 48), IGNORE, np.int16)
    labels[:, 16:32] = 0
    sample = Sample(np.zeros((16, 48, 3), np.uint8), labels, (("hat",),))
    loss = belief_loss(logits, lambda names: rows, ("dog",), believed, [sample])

    def divergence(dog, evidence):
        share = math.exp(evidence) / (math.exp(evidence) + others)
        return dog * math.log(dog / share) + (1 - dog) * math.log((1 - dog) / (1 - share))

    expected = (divergence(0.75, 2.0) + divergence(0.4, 0.0)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_the_voc_teacher_believes_what_its_network_says(teachers):
    folder, stem = teachers
    teacher = VocTeacher(folder)
    assert teacher.names == ("airplane", "potted plant")
    pixels = torch.rand(2, 3, 48, 64) * 2 - 1
    with torch.no_grad():
        expected = stem.voc_head(stem.voc(pixels))[1].softmax(dim=1)
    torch.testing.assert_close(teacher(pixels), expected, atol=0.02, rtol=0)  # half precision


def test_salience_is_mapped_back_to_the_photo(tmp_path, monkeypatch):
    """A network that answers with the red channel: the left half of a 40 x 80 photo."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")

    class Network:
        def __init__(self, path, options, providers):
            assert path.endswith("u2net.onnx")

        def get_inputs(self):
            return [SimpleNamespace(name="photo")]

        def get_outputs(self):
            return [SimpleNamespace(name="fused"), SimpleNamespace(name="side")]

        def run(self, names, given):
            assert names == ["fused"]
            batch = given["photo"]
            assert batch.shape == (1, 3, 320, 320)
            assert batch.dtype == np.float32
            return [batch[:, :1] * 0.229 + 0.485]  # undo the scaling

    fake = SimpleNamespace(InferenceSession=Network, SessionOptions=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    maps = salience_maps([tmp_path / "half.png"], tmp_path / "u2net.onnx")
    (found,) = maps.values()
    assert list(maps) == [f"{tmp_path.name}/half"]
    assert found.shape == (40, 80)
    assert (found[:, :38] > 250).all()
    assert (found[:, 42:] < 5).all()
