"""GKC and the two-stage baseline as methods: bound to towers, asked through the engine, shown from inside."""

import json
from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

import numpy as np
import pytest
import torch
from mask_toys import random_pyramid, random_text
from open_clip.model import CLIP
from tiny_clip import randomise
from towers import random_photo
from training_toys import CONFIG

from ovs_core.checkpoints import CheckpointError, WeightStore
from ovs_core.decoders.mask_decoder import MaskDecoderConfig
from ovs_core.decoders.pixel_decoder import PixelDecoderConfig
from ovs_core.encoders.clip_resnet import IMAGENET_MEAN, pyramid_channels
from ovs_core.encoders.loading import CLIP_MEAN, CLIP_STD, LoadedModel
from ovs_core.encoders.mini import build_mini
from ovs_core.encoders.mini_pyramid import picture_embeddings
from ovs_core.encoders.mini_pyramid import pyramid_channels as mini_channels
from ovs_core.encoders.towers import EncoderSpec, mini_pyramid, resnet_pyramid
from ovs_core.engine import Engine, Request, Result
from ovs_core.evidence.decide import decide
from ovs_core.methods import METHODS
from ovs_core.methods.gkc.captions import GKC_VIEWS
from ovs_core.methods.gkc.head_file import TrainedGkc, load_gkc_head, save_gkc_head, tuned_resnet
from ovs_core.methods.gkc.method import Gkc
from ovs_core.methods.gkc.student import GkcHead, GkcHeadConfig
from ovs_core.methods.heads import add_head
from ovs_core.methods.mask_classification.head import MaskHead, MaskHeadConfig
from ovs_core.methods.mask_classification.head_file import TrainedHead, save_mask_head
from ovs_core.methods.photo_pyramid import PhotoPyramid
from ovs_core.methods.two_stage.model import TwoStage, mask_crops
from ovs_core.types import Vocabulary

BYTES = b"the tower's weights"
SHA = sha256(BYTES).hexdigest()
WORDS = Vocabulary((("cat", "kitten"), ("grass",)), ("sky",))
SMALL = {"short_side": 64}


def resnet_clip(seed=0):
    vision = {"layers": [1, 2, 1, 1], "width": 8, "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return randomise(CLIP(32, vision, text), seed)


def resnet_spec():
    def load(store):
        return LoadedModel(resnet_clip(), CLIP_MEAN, CLIP_STD, {"tower.pt": SHA})

    return EncoderSpec(
        "rn", "Tiny ResNet", "", "tower", "full", "resnet", 32, load, resnet=True, pyramid=resnet_pyramid
    )


def gkc_head(inputs, joint=32, seed=2):
    config = GkcHeadConfig(PixelDecoderConfig(inputs, 64, 32, 1), MaskDecoderConfig(joint, 64, 6, 32, 2))
    return randomise(GkcHead(config), seed)


def entry(name, file):
    return {
        "name": name,
        "title": f"Toy {name}",
        "kind": "clip",
        "files": [file],
        "url": None,
        "sha256": None,
        "bytes": None,
        "licence": "MIT",
        "source": "made by a test",
        "paper": "",
        "open_clip_model": None,
    }


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "catalogue.json").write_text(json.dumps({"weights": [entry("tower", "tower.pt")]}))
    (root / "tower.pt").write_bytes(BYTES)
    return root


@pytest.fixture
def engine(make_engine, root):
    engine = make_engine(encoders=MappingProxyType({"rn": resnet_spec()}))
    engine.store = WeightStore(root=root)
    return engine


@pytest.fixture
def head_file(tmp_path):
    visual = resnet_clip(seed=7).visual  # the student's tower learnt along
    tuned = {name: value for name, value in visual.state_dict().items() if not name.startswith("attnpool.")}
    trained = TrainedGkc(gkc_head(pyramid_channels(visual)), SHA, frozenset({"cat"}), tuned, {"steps": 3})
    return save_gkc_head(trained, tmp_path / "gkc.safetensors")


def test_nobody_publishes_a_head_and_one_sentence_says_so(engine):
    info = next(info for info in engine.methods("rn") if info.name == "gkc")
    assert not info.available
    assert info.reason.startswith(
        "GKC needs a part that is trained on Tiny ResNet, and nobody publishes one."
    )
    with pytest.raises(ValueError, match="nobody publishes one"):
        engine.segment(random_photo(50, 70), WORDS, method="gkc", encoder="rn")


def test_the_embedded_model_has_a_head_that_knows_the_photo():
    engine = Engine("cpu", offline=True)
    assert METHODS["gkc"].head.published == {"mini": "mini-gkc"}
    assert next(info for info in engine.methods() if info.name == "gkc").available
    result = engine.segment("assets/photos/temple.jpg", "temple | building; sky; trees", method="gkc")
    assert "gkc.safetensors" in result.weights
    height, width = result.labels.shape
    middle, top = result.labels[height // 2, width // 3], result.labels[height // 20, width // 2]
    assert (middle, top) == (1, 2)  # the temple, the sky above it


def test_an_added_head_answers_on_its_students_tower(engine, root, head_file):
    add_head(engine.store, head_file, METHODS, {"rn": resnet_spec()})
    photo = random_photo(50, 70)
    result = engine.segment(photo, WORDS, method="gkc", encoder="rn", options=SMALL)
    assert result.labels.shape == (50, 70)
    proposals = result.evidence.proposals
    assert proposals.masks.shape[0] == 6
    torch.testing.assert_close(proposals.scores.sum(dim=1) + proposals.void, torch.ones(6))
    again = engine.segment(photo, WORDS, method="gkc", encoder="rn", options=SMALL)
    np.testing.assert_array_equal(result.labels, again.labels)
    assert set(result.weights) == {"tower.pt", f"gkc-{SHA[:16]}.safetensors"}


def test_methods_of_a_resnet_share_its_tower_and_do_not_mix(engine, root, head_file):
    """The student's tuned tower must not leak into the tower that MaskCLIP reads."""
    add_head(engine.store, head_file, METHODS, {"rn": resnet_spec()})
    photo = random_photo(50, 70)
    before = engine.segment(photo, WORDS, method="maskclip", encoder="rn", options=SMALL)
    engine.segment(photo, WORDS, method="gkc", encoder="rn", options=SMALL)
    engine.cache.drop("features")
    after = engine.segment(photo, WORDS, method="maskclip", encoder="rn", options={**SMALL, "scale": 41})
    torch.testing.assert_close(before.evidence.rows, after.evidence.rows, atol=0, rtol=0)
    known = {info.name: info for info in engine.methods("rn")}
    assert known["clip"].available
    assert known["maskclip"].available
    assert not known["naclip"].available  # a rule on a ViT's last block
    assert "does not run on" in known["naclip"].reason


def test_every_view_is_made_and_changes_no_answer(engine, root, head_file):
    add_head(engine.store, head_file, METHODS, {"rn": resnet_spec()})
    kinds = frozenset(view.kind for view in GKC_VIEWS)
    request = Request(random_photo(50, 70), WORDS, "gkc", "rn", options=SMALL, views=kinds, point=(0.2, 0.8))
    [shown] = [event for event in engine.run(request) if isinstance(event, Result)]
    assert {view.kind for view in shown.views} == kinds
    plain = engine.segment(random_photo(50, 70), WORDS, method="gkc", encoder="rn", options=SMALL)
    torch.testing.assert_close(shown.evidence.proposals.masks, plain.evidence.proposals.masks, atol=0, rtol=0)


def views_of(kind, **changes):
    head = gkc_head((16, 32, 64, 128))
    method = Gkc(head)
    pyramid = random_pyramid(image_size=(50, 70), padded=(64, 96))
    text = random_text(WORDS)
    answer = method.ask(pyramid, text, {}, views={kind}, **changes)
    return answer, method.name_masks(pyramid, text), text


def test_each_query_is_told_with_its_likeliest_classes():
    answer, named, _ = views_of("mask_words")
    [view] = answer.views
    probabilities = named.classes.softmax(dim=1)
    order = probabilities[:, :-1].amax(dim=1).argsort(descending=True, stable=True)
    titles = ("cat", "grass", "other", "no object")
    for place, query in enumerate(order.tolist()):
        values, columns = probabilities[query].sort(descending=True)
        assert view.words[place] == tuple(titles[column] for column in columns.tolist())
        torch.testing.assert_close(view.maps[place, 0], values)


def test_masks_that_hold_the_point_come_first():
    answer, named, _ = views_of("mask_proposals", point=(0.9, 0.1))
    chances = named.proposed.decoded.predictions[-1].masks[0].sigmoid()
    worth = named.classes.softmax(dim=1)[:, :-1].amax(dim=1)
    height, width = -(-16 * 50 // 64), -(-24 * 70 // 96)
    worth = worth * chances[:, int(0.9 * height), int(0.1 * width)]
    [view] = answer.views
    torch.testing.assert_close(view.maps[0], chances[int(worth.argmax()), :height, :width])
    with pytest.raises(ValueError, match="point"):
        views_of("mask_proposals", point=(1.5, 0.1))


# The file.


def test_a_head_comes_back_from_its_file(head_file):
    found = load_gkc_head(head_file, SHA)
    assert (found.seen, found.training) == (frozenset({"cat"}), {"steps": 3})
    original = gkc_head(pyramid_channels(resnet_clip().visual)).state_dict()
    for name, value in found.head.state_dict().items():
        torch.testing.assert_close(value, original[name].half().float(), atol=0, rtol=0)
    visual = resnet_clip().visual
    student = tuned_resnet(visual, found, source="file")
    assert not torch.equal(student.conv1.weight, visual.conv1.weight)
    torch.testing.assert_close(student.attnpool.c_proj.weight, visual.attnpool.c_proj.weight)
    assert tuned_resnet(visual, replace(found, tuned={}), source="file") is visual


def test_files_that_do_not_fit_are_refused(head_file, tmp_path):
    with pytest.raises(CheckpointError, match="was trained on another tower"):
        load_gkc_head(head_file, "b" * 64)
    other = tmp_path / "other.safetensors"
    mini = build_mini(CONFIG).visual
    config = MaskHeadConfig(
        PixelDecoderConfig(mini_channels(mini), 64, 32, 1), MaskDecoderConfig(32, 64, 4, 32, 1)
    )
    save_mask_head(TrainedHead("fc_clip", MaskHead(config), SHA, frozenset()), other)
    with pytest.raises(CheckpointError, match="not a file of a GKC head"):
        load_gkc_head(other, SHA)


def test_resnets_student_has_imagenets_mean(engine, root, head_file):
    add_head(engine.store, head_file, METHODS, {"rn": resnet_spec()})
    spec = METHODS["gkc"]
    engine.segment(random_photo(50, 70), WORDS, method="gkc", encoder="rn", options=SMALL)
    assert spec.preset(resnet_spec(), torch.device("cpu")).templates == "name"
    resident = engine.loaded._residents["rn"]
    image = resident.bound["gkc"][1].image
    assert image.mean == IMAGENET_MEAN
    assert resident.tower.pyramid.mean == CLIP_MEAN


# The two-stage baseline.


@pytest.fixture
def stages(make_engine, tmp_path):
    """An engine on the toy of the embedded model with FC-CLIP's toy head, which both methods use."""
    root = tmp_path / "stages"
    (root / "mini").mkdir(parents=True)
    (root / "catalogue.json").write_text(
        json.dumps({"weights": [entry("mini-fc-clip", "mini/fc_clip.safetensors")]})
    )
    torch.manual_seed(0)
    model = build_mini(CONFIG)
    config = MaskHeadConfig(
        PixelDecoderConfig(mini_channels(model.visual), 64, 32, 1),
        MaskDecoderConfig(CONFIG["embed_dim"], 64, 5, 32, 2),
    )
    head = randomise(MaskHead(config), 4)
    save_mask_head(
        TrainedHead("fc_clip", head, SHA, frozenset({"cat"})), root / "mini" / "fc_clip.safetensors"
    )

    def load(store):
        torch.manual_seed(0)
        return LoadedModel(build_mini(CONFIG), (0.5,) * 3, (0.5,) * 3, {"toy.safetensors": SHA})

    heads = MappingProxyType(dict.fromkeys(("fc_clip", "two_stage"), "mini-fc-clip"))
    spec = EncoderSpec(
        "mini", "Toy", "", None, "embedded", "mini", 16, load, pyramid=mini_pyramid, heads=heads
    )
    engine = make_engine(encoders=MappingProxyType({"mini": spec}))
    engine.store = WeightStore(root=root)
    return engine


def test_both_stages_name_the_same_masks(stages):
    photo = random_photo(70, 100)
    first = stages.segment(photo, WORDS, method="fc_clip", options=SMALL).evidence.proposals
    second = stages.segment(photo, WORDS, method="two_stage", options=SMALL).evidence.proposals
    torch.testing.assert_close(first.masks, second.masks, atol=0, rtol=0)
    torch.testing.assert_close(first.void, second.void, atol=1e-6, rtol=0)
    assert not torch.allclose(first.scores, second.scores)


def test_without_rescoring_the_trained_head_alone_speaks(stages):
    photo = random_photo(70, 100)
    options = {**SMALL, "rescoring": 0.0}
    request = Request(photo, WORDS, "two_stage", "mini", options=options, views=frozenset({"mask_words"}))
    [alone] = [event for event in stages.run(request) if isinstance(event, Result)]
    full = stages.segment(photo, WORDS, method="two_stage", options=SMALL)
    assert not torch.allclose(alone.evidence.proposals.scores, full.evidence.proposals.scores)
    [view] = alone.views
    # The class of the answer is the first one of the trained head for every mask.
    assert all(words[0] == words[2] for words in view.words)


@pytest.mark.parametrize("rescoring", [0.0, 1.0])
def test_labels_with_and_without_the_second_look_are_shown(stages, rescoring):
    photo = random_photo(64, 96)  # of the frame's own size: a cell of the masks is 4 pixels
    views = frozenset({"rescored"})
    request = Request(
        photo, WORDS, "two_stage", "mini", options={**SMALL, "rescoring": rescoring}, views=views
    )
    [result] = [event for event in stages.run(request) if isinstance(event, Result)]
    [view] = result.views
    assert view.maps.shape == (2, 16, 24)
    for shown, weight in zip(view.maps, (0.0, 1.0), strict=True):
        answer = stages.segment(photo, WORDS, method="two_stage", options={**SMALL, "rescoring": weight})
        labels, _ = decide(answer.evidence, 1.0, 0.0, (16, 24))
        np.testing.assert_array_equal(shown.numpy(), labels)
    changed = float((view.maps[0] != view.maps[1]).float().mean())
    assert view.title.endswith(f"which changes {changed:.0%} of the photo")
    assert view.labels == ("trained head alone", "and CLIP on each mask")


def test_crops_are_those_of_masks_with_pixels():
    pyramid = random_pyramid(image_size=(64, 96), padded=(64, 96))
    pixels = random_photo(64, 96).pixels
    masks = torch.full((3, 16, 24), -5.0)
    masks[0, 4:8, 6:12], masks[2, 0:2, 0:2] = 5.0, 5.0
    crops, places = mask_crops(masks, PhotoPyramid(pyramid, pixels))
    assert places.tolist() == [0, 2]
    assert crops.shape == (2, 3, 224, 224)
    empty, none = mask_crops(torch.full((2, 16, 24), -5.0), PhotoPyramid(pyramid, pixels))
    assert (len(empty), len(none)) == (0, 0)


def test_the_whole_tower_looks_at_each_crop(stages):
    """One picture alone is embedded as in a batch, by the tower's class token."""
    torch.manual_seed(0)
    visual = build_mini(CONFIG).visual.eval().requires_grad_(False)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    both = picture_embeddings(visual, pixels)
    assert both.shape == (2, CONFIG["embed_dim"])
    torch.testing.assert_close(picture_embeddings(visual, pixels[1:]), both[1:], atol=1e-5, rtol=1e-4)


def test_masks_without_pixels_keep_the_heads_word():
    """All masks empty: CLIP is asked nothing, the head's own classes stand."""
    pyramid = random_pyramid(image_size=(64, 96), padded=(64, 96))
    config = MaskHeadConfig(
        PixelDecoderConfig((16, 32, 64, 128), 64, 32, 1), MaskDecoderConfig(32, 64, 5, 32, 1)
    )
    head = randomise(MaskHead(config), 4)
    with torch.no_grad():
        head.pixel_decoder.mask_features.weight.zero_()
        head.pixel_decoder.mask_features.bias.zero_()

    def refuse(pictures):
        raise AssertionError(pictures.shape)

    method = TwoStage(head, lambda vectors: vectors[:, :32], refuse, torch.tensor(3.0), frozenset())
    features = PhotoPyramid(pyramid, random_photo(64, 96).pixels)
    with_clip = method.ask(features, random_text(WORDS), {}).evidence
    without = method.ask(features, random_text(WORDS), {"rescoring": 0.0}).evidence
    torch.testing.assert_close(with_clip.scores, without.scores, atol=0, rtol=0)


def test_engine_is_told_what_it_needs(make_engine):
    with pytest.raises(CheckpointError, match="FC-CLIP's head"):
        METHODS["two_stage"].bind(None, None)  # type: ignore[arg-type]
    assert isinstance(make_engine(), Engine)
