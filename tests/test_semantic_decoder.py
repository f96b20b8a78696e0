"""The semantic decoder: ZegCLIP's equals official code by layer; LDVC's is put together from proven parts."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from zegclip_tensors import DATA, close, weights

from ovs_core.decoders.route_attention import RouteConfig
from ovs_core.decoders.semantic_decoder import (
    CrossAttention,
    SemanticDecoder,
    SemanticDecoderConfig,
    descriptor,
    init_decoder,
)
from ovs_core.methods.ldvc.official import decoder_state

ROUTE = RouteConfig(4, 3)


@pytest.fixture(scope="module")
def reference():
    return load_file(DATA / "parity_zegclip_head.safetensors")


def zegclip_decoder(tensors):
    config = SemanticDecoderConfig(64, "class", 3, 8, 256, route=None)
    made = SemanticDecoder(config).eval().requires_grad_(False)
    made.load_state_dict(decoder_state(weights(tensors)))
    return made


def test_every_layer_equals_zegclips(reference):
    made = zegclip_decoder(reference)
    whole, text = reference["in.cls"], reference["in.text"]
    close(descriptor(text, whole), reference["out.rel_descriptor"])
    found = made(reference["in.visual"], whole, text)
    close(found.classes, reference["out.q0"])
    for layer in range(3):
        close(found.attention[layer].flatten(2), reference[f"out.layer{layer}_attn_logits"])
        close(found.asked[layer + 1], reference[f"out.layer{layer}_query"])
    assert torch.equal(found.scores, found.attention[2])
    full = F.interpolate(found.scores, size=(32, 32), mode="bilinear", align_corners=False)
    close(full.sigmoid(), reference["out.pred_selftrain"])


def test_seen_classes_alone_give_the_training_masks(reference):
    found = zegclip_decoder(reference)(reference["in.visual"], reference["in.cls"], reference["in.text"][:5])
    full = F.interpolate(found.scores, size=(32, 32), mode="bilinear", align_corners=False)
    close(full, reference["out.train_pred_masks"])


def test_attention_with_swapped_sides_equals_official_code():
    tensors = load_file(DATA / "parity_zegclip_attention.safetensors")
    made = CrossAttention(64, 8).eval()
    made.load_state_dict(weights(tensors))
    output, logits = made(tensors["in.visual_query"], tensors["in.class_kv"])
    close(output, tensors["out.out"])
    close(logits, tensors["out.logits_mean_over_heads"])


def decoder(seed=0, **changes):
    settings = {"width": 32, "queries": "visual", "layers": 3, "heads": 4, "feedforward": 48, "route": ROUTE}
    made = SemanticDecoder(SemanticDecoderConfig(**{**settings, **changes})).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in made.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = parameter.ndim == 1 and name.endswith("norm.weight")
        parameter.data.copy_(1 + 0.1 * noise if scale else 0.3 * noise)
    return made.requires_grad_(False)


def inputs(height=7, width=10, names=6, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(batch, 32, height, width, generator=generator)
    whole, text = (torch.randn(n, 32, generator=generator) for n in (batch, names))
    return F.normalize(dense, dim=1), F.normalize(whole, dim=1), F.normalize(text, dim=1)


def test_ldvcs_decoder_is_composed_as_the_paper_says():
    made, (dense, whole, text) = decoder(), inputs()
    found = made(dense, whole, text)
    classes = F.linear(
        torch.cat([text * whole[:, None], text.expand(2, -1, -1)], dim=2),
        made.descriptor.linear.weight,
        made.descriptor.linear.bias,
    )
    close(found.classes, classes)
    x = dense.flatten(2).transpose(1, 2)
    for layer, block in enumerate(made.blocks):
        routed = block.route(x.reshape(2, 7, 10, 32)).output.reshape(2, 70, 32)
        x = block.route_norm(x + routed)
        output, logits = block.cross(x, classes)
        x = block.cross_norm(x + output)
        x = block.feedforward_norm(x + block.linear2(F.relu(block.linear1(x))))
        close(found.visual[layer + 1], x)
        close(found.attention[layer].flatten(2), logits.transpose(1, 2))
        assert found.routes[layer].chosen.shape == (2, 16, 3)
    assert found.scores.shape == (2, 6, 7, 10)
    assert torch.equal(found.scores, found.attention[2])
    assert torch.equal(found.asked[0], found.classes)


def test_class_embeddings_stay_with_visual_queries_and_drift_with_class_queries():
    arguments = inputs()
    anchored, drifting = decoder()(*arguments), decoder(queries="class", route=None)(*arguments)
    assert (len(anchored.asked), len(anchored.visual)) == (1, 4)
    assert (len(drifting.asked), len(drifting.visual), drifting.routes) == (4, 1, ())


def test_routing_can_be_looked_at_without_and_with_all_windows():
    made, arguments = decoder(), inputs()
    routed, everywhere, skipped = (
        made(*arguments, routing=one).scores for one in ("routed", "everywhere", "skipped")
    )
    whole = decoder(route=RouteConfig(4, 16))
    whole.load_state_dict(made.state_dict())
    close(everywhere, whole(*arguments).scores)
    without = decoder(route=None)
    without.load_state_dict({name: value for name, value in made.state_dict().items() if "route" not in name})
    close(skipped, without(*arguments).scores)
    assert all((routed - other).abs().max() > 1e-3 for other in (everywhere, skipped))


def test_dot_readout_compares_what_both_sides_became():
    arguments = inputs()
    found = decoder(readout="dot")(*arguments)
    expected = torch.einsum("bsd,bnd->bsn", found.classes, found.visual[-1]) / math.sqrt(32)
    close(found.scores.flatten(2), expected)
    assert not torch.equal(found.scores, found.attention[-1])
    asked = decoder(queries="class", route=None, readout="dot")(*arguments)
    close(
        asked.scores.flatten(2),
        torch.einsum("bsd,bnd->bsn", asked.asked[-1], asked.visual[0]) / math.sqrt(32),
    )


@pytest.mark.parametrize("queries", ["class", "visual"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 9), (13, 2)])
def test_any_grid(queries, size):
    made = decoder(queries=queries, route=ROUTE if queries == "visual" else None)
    found = made(*inputs(*size))
    assert found.scores.shape == (2, 6, *size)
    assert torch.isfinite(found.scores).all()


def test_a_flipped_picture_gives_flipped_scores_where_windows_flip_too():
    made, (dense, whole, text) = decoder(), inputs(8, 12)
    found = made(dense, whole, text).scores
    flipped = made(dense.flip(3), whole, text).scores
    close(flipped.flip(3), found)
    turned = made(dense.transpose(2, 3), whole, text).scores
    close(turned.transpose(2, 3), found)


def test_dropout_acts_in_training_alone():
    made, arguments = decoder(dropout=0.5), inputs()
    assert torch.equal(made(*arguments).scores, made(*arguments).scores)
    made.train()
    torch.manual_seed(0)
    assert not torch.equal(made(*arguments).scores, made(*arguments).scores)


def test_start_values():
    made = SemanticDecoder(SemanticDecoderConfig(32, heads=4, route=ROUTE))
    init_decoder(made, torch.Generator().manual_seed(0))
    weight = made.blocks[0].linear1.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (made.blocks[0].linear1.bias == 0).all()
    assert (made.blocks[1].cross_norm.weight == 1).all()
    again = SemanticDecoder(made.config)
    init_decoder(again, torch.Generator().manual_seed(0))
    assert torch.equal(again.blocks[2].cross.q.weight, made.blocks[2].cross.q.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30}, "divisible by 4 heads"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"queries": "class"}, "route attention needs visual queries"),
    ],
)
def test_decoders_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        decoder(**settings)


def test_features_of_another_width_are_refused():
    dense, whole, text = inputs()
    with pytest.raises(ValueError, match="must be 32 wide, got 32, 32 and 16"):
        decoder()(dense, whole, text[:, :16])
