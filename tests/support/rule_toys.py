"""Random tokens of windows, and words, for rules on the tiny tower."""

import torch
import torch.nn.functional as F

from ovs_core.types import Features, TextBank, Vocabulary, Window

WIDTH, JOINT = 32, 24  # of the tiny tower


def random_window(grid=(3, 5), top=0, left=0, layers=3, seed=0):
    """Random tokens of a window, and of what leaves earlier blocks."""
    generator = torch.Generator().manual_seed(seed)
    every = [torch.randn(1 + grid[0] * grid[1], WIDTH, generator=generator) for _ in range(layers - 1)]
    return Window(top, left, grid, every[-1], tuple(every[:-1]))


def two_windows(grid=(2, 5), layers=3):
    """Two windows of 2 x 3 that share column 2 of a frame of 2 x 5."""
    windows = tuple(random_window((2, 3), 0, left, layers, seed) for left, seed in ((0, 1), (2, 2)))
    return Features("tiny", (32, 80), grid, windows)


def some_text(names=3, other=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = tuple((f"class {n}",) for n in range(names))
    vocabulary = Vocabulary(classes, tuple(f"o {n}" for n in range(other)))
    rows = torch.randn(len(vocabulary.rows), JOINT, generator=generator)
    return TextBank(vocabulary, F.normalize(rows, dim=1))
