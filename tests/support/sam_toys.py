"""SAM with random weights at the full layout of MobileSAM, and what official files hold."""

import gzip
from pathlib import Path

import torch

from ovs_core.refine.sam.load import build_mobile_sam, build_sam
from ovs_core.refine.sam.tiny_vit import TinyViTConfig

DATA = Path(__file__).resolve().parents[1] / "data"


def official_keys():
    """Name -> shape of every tensor in the official MobileSAM file."""
    text = gzip.decompress((DATA / "mobilesam_keys.txt.gz").read_bytes()).decode()
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {
        name: tuple(int(side) for side in shape.strip("()").split(",") if side.strip())
        for name, shape, _ in lines
    }


def random_state(seed=0):
    """What a MobileSAM file of random weights holds, the unused classifier included."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in official_keys().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        elif name.endswith((".weight", ".bias")) and len(shape) == 1:
            state[name] = torch.full(shape, float(name.endswith(".weight")))
        else:
            spread = max(1, torch.Size(shape[1:]).numel()) ** -0.5
            state[name] = spread * torch.randn(shape, generator=generator)
    return state


def small_sam(seed=0):
    """The real classes with a narrow TinyViT: an embedding in a fraction of the time."""
    torch.manual_seed(seed)
    config = TinyViTConfig((16, 16, 16, 16), (1, 1, 1, 1), (1, 2, 2, 2), (7, 7, 7, 7))
    return build_mobile_sam(config).eval().requires_grad_(False)


def empty_state(kind):
    """Names and shapes of an official SAM file, without values."""
    with torch.device("meta"):
        return dict(build_sam(kind).state_dict())


class PaintedMasks(torch.nn.Module):
    """Stands where the mask decoder is: answers with given masks, one per prompt, and a trust in each."""

    def __init__(self, masks, trust):
        super().__init__()
        self.masks, self.trust, self.asked = masks, trust, 0

    def forward(
        self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output
    ):
        count, wide = len(sparse_prompt_embeddings), 3 if multimask_output else 1
        places = [(self.asked + number) % len(self.masks) for number in range(count)]
        self.asked += count
        logits = torch.stack([self.masks[place].expand(wide, -1, -1) for place in places])
        return logits, torch.tensor([[self.trust[place]] * wide for place in places])


def rectangle(top, left, bottom, right, side=256):
    """Logits (side, side) that are 8 inside a rectangle and -8 outside."""
    logits = torch.full((side, side), -8.0)
    logits[top:bottom, left:right] = 8.0
    return logits
