"""Mean IoU from confusion matrices, and how sure one may be of it.

Rows of a confusion matrix are the truth, columns the answer, in pixels; class 0 is the background. IoU needs
only three numbers of each class: pixels right, in the truth, in the answer. Those `margins` add up over
photos just as the matrices do, so the matrix of every photo need not be kept to resample photos.
"""

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[np.integer], answer: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count pixels by (truth, answer), (classes, classes).

    Args:
        truth: class of each pixel in 0..classes-1; -1 leaves a pixel out.
        answer: class of each pixel in 0..classes-1, of the same shape.
        classes: how many there are, background included.

    Raises:
        ValueError: if the shapes differ or a class is out of range.
    """
    if truth.shape != answer.shape:
        raise ValueError(f"truth and answer must have one shape, got {truth.shape} and {answer.shape}")
    counted = truth >= 0
    rows, columns = truth[counted].astype(np.int64), answer[counted].astype(np.int64)
    if rows.size and (max(rows.max(), columns.max()) >= classes or columns.min() < 0):
        raise ValueError(f"truth and answer must lie in 0..{classes - 1}")
    return np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)


def margins(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels of each class that are right, in the truth, in the answer, (3, classes)."""
    return np.stack([matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])


def class_iou(total: NDArray[np.number]) -> NDArray[np.float64]:
    """IoU in [0, 1] of each class, (..., classes), from margins (..., 3, classes).

    NaN where the truth has none of it.
    """
    right, truth, answer = np.moveaxis(total.astype(np.float64), -2, 0)
    return np.divide(right, truth + answer - right, out=np.full_like(right, np.nan), where=truth > 0)


def mean_iou(total: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean IoU in [0, 1], (...), over the classes that occur in the truth; NaN where none does."""
    iou = class_iou(total)
    known = ~np.isnan(iou)
    count = known.sum(axis=-1)
    sums = np.where(known, iou, 0).sum(axis=-1)
    return np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)


def interval(photos: NDArray[np.int64], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap the mean IoU over photos: 2.5th and 97.5th percentile.

    Args:
        photos: margins of each photo, (N, 3, classes), N >= 1.
        resamples: how many times N photos are drawn with replacement.
        seed: equal seeds draw the same photos, so that methods are resampled alike.
    """
    number = len(photos)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(number, np.full(number, 1 / number), size=resamples)  # (resamples, N)
    flat = photos.reshape(number, -1).astype(np.float64)  # (N, 3*classes)
    totals = (drawn.astype(np.float64) @ flat).reshape(
        resamples, *photos.shape[1:]
    )  # (resamples, 3, classes)
    values = mean_iou(totals)
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
