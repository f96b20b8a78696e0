"""Label maps made up for tests."""

import numpy as np


def random_maps(seed, classes, size=(48, 64)):
    """Truth and answer in blocks, a quarter of the answer's blocks wrong, and what is known of the truth."""
    generator = np.random.default_rng(seed)
    blocks = (size[0] // 8, size[1] // 8)
    truth = generator.integers(0, classes, blocks)
    answer = np.where(generator.random(blocks) < 0.25, generator.integers(0, classes, blocks), truth)
    known = generator.random(blocks) < (1 - 1 / classes)
    return tuple(part.repeat(8, axis=0).repeat(8, axis=1) for part in (truth, answer, known))
