"""Mask methods against tensors that MAFT+'s official code made, weights through the official-file loader.

The file in tests/data holds the weights of some layers and the tensors around them (tests/data/README.md).
Everything else is random: each stage starts from the official tensor before it.
"""

import pytest
import torch
from mask_toys import CLASSES, conv_clip, official_state, random_head, reference

from ovs_core.decoders.mask_decoder import Decoded, Prediction, blocked_cells
from ovs_core.decoders.mask_pooling import mask_pooling
from ovs_core.decoders.pixel_decoder import DecodedPixels
from ovs_core.encoders.clip_conv import PIXEL_MEAN, PIXEL_STD, ConvEncoder, pyramid
from ovs_core.encoders.official_clip import load_clip
from ovs_core.encoders.pyramids import normalise_and_pad
from ovs_core.evidence.decide import decide
from ovs_core.evidence.segments import instances, panoptic
from ovs_core.methods.mask_classification.head import Proposed, to_proposals
from ovs_core.methods.mask_classification.official import build_method, recognise
from ovs_core.options import Preset
from ovs_core.types import Pyramid

TOLERANCE = {"atol": 1e-4, "rtol": 0}
COUNTS = [len(names) for names in CLASSES.classes]


@pytest.fixture(scope="module")
def tensors():
    return reference()


def load(tensors, prefix, transfer, projection):
    """A method from a file whose known tensors are official and the others random."""
    state = official_state(conv_clip(projection, seed=3), random_head(transfer, seed=3))
    known = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    assert set(known) <= set(state)
    state |= known
    form = recognise(state, source="reference")
    model = conv_clip(projection, seed=4)
    load_clip(model, state, source="reference")
    return build_method(state, form, model, frozenset(), source="reference"), model


@pytest.fixture(scope="module")
def semantic(tensors):
    return load(tensors, "w.", "semantic", "mlp")


@pytest.fixture(scope="module")
def fine_pixels(tensors, semantic):
    """The pixel decoder's answer, from the official mixed cells."""
    method, model = semantic
    frame = normalise_and_pad(tensors["eval.in.image0"].float() / 255, PIXEL_MEAN, PIXEL_STD)
    with torch.no_grad():
        finest = pyramid(model.visual, frame[None])[0][0]
        levels = [tensors[f"eval.pix.multi_scale{i}"] for i in range(3)]
        cells = torch.cat([level.flatten(1).T for level in levels])[None]
        return method.head.pixel_decoder.finish(finest, cells, [one.shape[1:] for one in levels])


def test_tower_normalises_pads_and_reads_its_first_stages(tensors, semantic):
    _, model = semantic
    encoder = ConvEncoder("toy", "toy", model.visual, torch.device("cpu"), torch.float32)
    photo = tensors["eval.in.image0"].permute(1, 2, 0).contiguous().numpy()
    found = encoder.encode(photo, Preset(1.0, 0.0, 126, None, 0, "vild14"))
    assert (found.frame, found.padded) == ((126, 150), (128, 160))
    torch.testing.assert_close(found.maps[0][:, ::4, ::4], tensors["eval.feat.res2"], **TOLERANCE)
    torch.testing.assert_close(found.maps[1][:, ::2, ::2], tensors["eval.feat.res3"], **TOLERANCE)


def test_deformable_layer(tensors, semantic):
    method, model = semantic
    frame = normalise_and_pad(tensors["eval.in.image0"].float() / 255, PIXEL_MEAN, PIXEL_STD)
    with torch.no_grad():
        fine = pyramid(model.visual, frame[None])[0][:2]
        coarse = [tensors[f"eval.feat.res{i}"][None] for i in (4, 5)]
        found = method.head.pixel_decoder.mix([*fine, *coarse], every_layer=True)[0][0]
    torch.testing.assert_close(found[::5], tensors["eval.pix.enc_layer0"], **TOLERANCE)


def test_mask_features(tensors, fine_pixels):
    for level in range(3):
        torch.testing.assert_close(fine_pixels.levels[level][0], tensors[f"eval.pix.multi_scale{level}"])
    features = fine_pixels.mask_features[0, :, ::4, ::4]
    torch.testing.assert_close(features, tensors["eval.pix.mask_features"], **TOLERANCE)


def test_with_void(tensors, semantic):
    found = semantic[0].head.with_void(tensors["eval.text.classifier"])
    torch.testing.assert_close(found, tensors["eval.text.with_void"], **TOLERANCE)


def test_decoder_layers_of_every_level(tensors, semantic, fine_pixels):
    head, names = semantic[0].head, tensors["eval.text.with_void"]
    with torch.no_grad():
        decoded = head.mask_decoder(fine_pixels, every_layer=True, attention=True)
        for i, prediction in enumerate(decoded.predictions[:4]):
            masks = prediction.masks[0, :, ::4, ::4]
            torch.testing.assert_close(masks, tensors[f"eval.dec.masks{i}"], **TOLERANCE)
            logits = head.in_vocabulary(prediction, fine_pixels, names, COUNTS)[0]
            torch.testing.assert_close(logits, tensors[f"eval.dec.logits{i}"], **TOLERANCE)
        for i, weights in enumerate(decoded.cross_attention[:3]):
            expected = tensors[f"eval.dec.cross_attn_weights{i}"]
            torch.testing.assert_close(weights[0].flatten(1), expected, **TOLERANCE)


def test_steps_inside_a_decoder_layer(tensors, semantic, fine_pixels):
    decoder = semantic[0].head.mask_decoder
    x, positions = decoder.query_feat.weight[None], decoder.query_embed.weight[None]
    with torch.no_grad():
        for i, (grid, keys, values) in enumerate(decoder.memory(fine_pixels.levels)):
            layer = decoder.layers[i]
            blocked = blocked_cells(decoder.predict(x, fine_pixels.mask_features).masks, grid)
            x, _ = layer.look(x, positions, keys, values, blocked, False)
            torch.testing.assert_close(x[0], tensors[f"eval.dec.after_cross{i}"], **TOLERANCE)
            x = layer.mix(x, positions)
            torch.testing.assert_close(x[0], tensors[f"eval.dec.after_ffn{i}"], **TOLERANCE)


def name_masks(method, text, masks, logits, dense):
    """Name official masks."""
    pooled = mask_pooling(dense[None], masks[None])[0]
    with torch.no_grad():
        embeddings = method.to_joint_space(pooled)
    decoded = Decoded((Prediction(masks[None], masks[None]),), ())
    pixels = DecodedPixels((), masks[None])
    names = method.head.with_void(text)
    return method.name_masks(Proposed(pixels, decoded, names, logits, pooled, embeddings), dense, CLASSES)


@pytest.fixture(scope="module")
def named(tensors, semantic):
    masks, logits, dense = (
        tensors[f"eval.{name}"] for name in ("dec.pred_masks", "dec.pred_logits", "feat.res5")
    )
    return name_masks(semantic[0], tensors["eval.text.classifier"], masks, logits, dense)


def test_pooling_and_the_towers_head(tensors, named):
    pooled, embedded = named.proposed.pooled, named.proposed.embeddings
    torch.testing.assert_close(pooled, tensors["eval.cls.pooled_clip_feature"], **TOLERANCE)
    torch.testing.assert_close(embedded, tensors["eval.cls.pooled_embed"], **TOLERANCE)


def test_transfer_and_logits(tensors, semantic, named):
    torch.testing.assert_close(named.rows, tensors["eval.cdt.text_out"], **TOLERANCE)
    torch.testing.assert_close(named.out_vocabulary, tensors["eval.cls.out_vocab_logits"], **TOLERANCE)
    torch.testing.assert_close(named.log_probabilities, tensors["eval.final.cls_log"], **TOLERANCE)
    with torch.no_grad():
        dense = tensors["eval.feat.res5"][None]
        seen = semantic[0].transfer(tensors["eval.text.with_void"], dense).attention[0]
    torch.testing.assert_close(seen, tensors["eval.cdt.attn_weights"], **TOLERANCE)


def frame_of(size, dense):
    """A pyramid whose maps play no part any more."""
    frame = (126, 150) if size == (126, 150) else (128, 160)
    return Pyramid("reference", size, frame, (128, 160), (dense,) * 4, dense)


def whole(proposals):
    """Scores (K, H, W) of all tiles."""
    found = torch.full((len(proposals.labels), *proposals.image_size), torch.nan)
    for top, left, scores in proposals.class_tiles(proposals.image_size):
        found[:, top : top + scores.shape[1], left : left + scores.shape[2]] = scores
    return found


def test_semantic_scores_with_padding_cut_off(tensors, named):
    frame = frame_of((126, 150), tensors["eval.feat.res5"])
    proposals = to_proposals(named, frame, CLASSES, resize_masks=False)
    found = whole(proposals)
    torch.testing.assert_close(found[:, ::5, ::5], tensors["eval.final.sem_seg"], **TOLERANCE)
    labels, _ = decide(proposals, 1.0, 0.0)
    assert (labels[::2, ::2] == tensors["eval.final.argmax"].numpy() + 1).all()


@pytest.fixture(scope="module")
def panoptic_file(tensors):
    """The panoptic form: another residual, another tower head, masks resized first."""
    method, _ = load(tensors, "pano.w.", "panoptic", "linear")
    masks, logits, dense = (
        tensors[f"pano.{name}"] for name in ("dec.pred_masks", "dec.pred_logits", "feat.res5")
    )
    found = name_masks(method, tensors["pano.text.classifier"], masks, logits, dense)
    return found, to_proposals(found, frame_of((200, 250), dense), CLASSES, resize_masks=True)


def test_panoptic_form_of_the_transfer(tensors, panoptic_file):
    found, proposals = panoptic_file
    torch.testing.assert_close(found.rows, tensors["pano.cdt.text_out"], **TOLERANCE)
    torch.testing.assert_close(found.out_vocabulary, tensors["pano.cls.out_vocab_logits"], **TOLERANCE)
    torch.testing.assert_close(found.log_probabilities, tensors["pano.final.cls_log"], **TOLERANCE)
    expected = tensors["pano.final.sem_seg"]
    torch.testing.assert_close(whole(proposals)[:, ::10, ::10], expected, **TOLERANCE)


def test_panoptic_answer(tensors, panoptic_file):
    found = panoptic(panoptic_file[1], {1, 4}, object_threshold=0.2, overlap_threshold=0.3)
    assert (found.numbers[::2, ::2] == tensors["pano.final.panoptic"].numpy()).all()
    # Official: {"id": 1, "isthing": true, "category_id": 3} and the same with id 2.
    assert [(one.number, one.thing, one.label) for one in found.segments] == [(1, True, 4), (2, True, 4)]
    assert [one.area for one in found.segments] == [(found.numbers == number).sum() for number in (1, 2)]


def test_instances(tensors, panoptic_file):
    found = instances(panoptic_file[1], {1, 4}, limit=20)
    scores, order = tensors["pano.final.inst_scores"].sort(descending=True)
    torch.testing.assert_close(torch.tensor([one.score for one in found]), scores, **TOLERANCE)
    assert [one.label - 1 for one in found] == tensors["pano.final.inst_classes"][order].tolist()
    assert [one.area for one in found] == tensors["pano.final.inst_areas"][order].tolist()


def test_token_order_of_official_weights_matters(tensors, semantic):
    # "per_pixel" would be the sound order; official weights were trained with the other.
    dense, names = tensors["eval.feat.res5"][None], tensors["eval.text.with_void"]
    method = semantic[0]
    sound = type(method)(method.head, method.to_joint_space, method.logit_scale, "per_pixel")
    with torch.no_grad():
        difference = (sound.transfer(names, dense).rows[0] - tensors["eval.cdt.text_out"]).abs().max()
    assert difference > 0.1
