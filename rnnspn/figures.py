"""The pictures that are drawn of a model: its curves, where it looks, what it confuses, what it gets wrong.

Shapes: n pictures, T steps, G glimpses a picture (T, 1 or none), H x W pixels, h x w glimpse pixels, K classes.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from rnnspn.files import replacing
from rnnspn.inference.records import NOTHING
from rnnspn.results.annotate import COLOURS

_SHEET_ROWS, _SHEET_COLUMNS = 5, 8
_CELL, _MOST_CELLS = 0.5, 30
"""Inches of a class in the confusion matrix, and of all together at the most."""
_LEAST_COLUMNS = 4
"""Room for the sheet's title."""


def draw_curves(epochs: list[dict[str, Any]], path: Path) -> None:
    """Plot training loss and the error rates over the epochs.

    Args:
        epochs: The lines of metrics.jsonl.
        path: The PNG to write.

    Raises:
        OutputError: The file cannot be written.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    number = [record["epoch"] + 1 for record in epochs]
    left.plot(number, [record["train_loss"] for record in epochs], color=COLOURS[0], marker=".")
    left.set(xlabel="epoch", ylabel="training loss (nats a digit)", yscale="log")
    for name, label, colour in (
        ("train_digit_error", "training", COLOURS[0]),
        ("validation_digit_error", "validation", COLOURS[1]),
    ):
        if name in epochs[0]:
            right.plot(number, [100 * record[name] for record in epochs], color=colour, marker=".", label=label)
    right.set(xlabel="epoch", ylabel="digits read wrongly (%)", yscale="log")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlim(number[0] - 0.5, number[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_formatter(_Plain())
        axes.yaxis.set_minor_formatter(_Plain())
        axes.grid(which="both", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_attention(
    images: NDArray[np.uint8],
    glimpses: NDArray[Any],
    theta: NDArray[np.floating[Any]] | None,
    read: list[str],
    path: Path,
    written: list[str] | None = None,
) -> None:
    """Draw pictures, the quadrilaterals attended at each step, and the glimpses; for `conv` the pictures alone.

    Args:
        images: uint8 (n, H, W).
        glimpses: uint8, or float from 0 to 1, (n, G, h, w): what the classifier sees; for `conv` the whole picture,
            with G = 1.
        theta: float (n, G, 2, 3), the affine matrices; None for `conv`.
        read: What was read in each picture.
        path: The PNG to write.
        written: What is written on each picture, where that is known.

    Raises:
        OutputError: The file cannot be written.

    Source: Figure 3 of the paper.
    """
    count, (height, width) = glimpses.shape[1], images.shape[1:]
    tall = min(4.0, 2 * max(height / width, glimpses.shape[2] / glimpses.shape[3]))
    columns = 1 if theta is None else 2 + count
    figure = Figure(figsize=(2 * columns, (tall + 0.3) * len(images)), layout="constrained")
    rows = figure.subplots(len(images), columns, squeeze=False)
    for row, axes in enumerate(rows):
        panels = [images[row]] if theta is None else [images[row], images[row], *glimpses[row]]
        for panel, content in zip(axes, panels, strict=True):
            panel.imshow(content, cmap="gray", vmin=0, vmax=255 if content.dtype == np.uint8 else 1)
            panel.set_axis_off()
        title = f"read {read[row] or NOTHING}" if written is None else _compared(written[row], read[row])
        axes[0].set_title(title, fontsize=10, parse_math=False)
        if theta is not None:
            for step, matrix in enumerate(theta[row]):
                _draw_quadrilateral(axes[1], matrix, width, height, COLOURS[step % len(COLOURS)])
                axes[2 + step].set_title(f"glimpse {step + 1}", fontsize=10, color=COLOURS[step % len(COLOURS)])
    _save(figure, path)


def draw_confusion(counts: NDArray[np.int64], alphabet: str, path: Path) -> None:
    """Draw a confusion matrix; the colour shows the share of a row, the number the count.

    Args:
        counts: int (K, K), a row for each class written, a column for each class read.
        alphabet: The character of each class.
        path: The PNG to write.

    Raises:
        OutputError: The file cannot be written.
    """
    classes = len(alphabet)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistaken = np.where(np.eye(classes, dtype=bool), 0, shares)
    cell = min(_CELL, _MOST_CELLS / classes)  # inches; what is in it shrinks with it
    figure = Figure(figsize=(1.6 + cell * classes, 1.1 + cell * classes), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(100 * mistaken, cmap="Oranges", vmin=0, vmax=max(1e-9, 100 * mistaken.max()))
    figure.colorbar(shown, label="read as another class (% of the row)", shrink=0.8)
    for (row, column), count in np.ndenumerate(counts):
        right = row == column
        if count:
            axes.text(
                column, row, f"{count}", ha="center", va="center", fontsize=14 * cell,
                color="#757575" if right else "white" if mistaken[row, column] > mistaken.max() * 0.6 else "black",
            )  # fmt: skip
    axes.set(xlabel="read", ylabel="written", xticks=range(classes), yticks=range(classes))
    axes.set_xticklabels(list(alphabet), fontsize=20 * cell)
    axes.set_yticklabels(list(alphabet), fontsize=20 * cell)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def draw_mistakes(
    images: NDArray[np.uint8], read: list[str], labels: list[str], confidence: NDArray[np.floating[Any]], path: Path
) -> None:
    """Draw the misread pictures as a contact sheet, the most confident mistakes first.

    Args:
        images: uint8 (n, H, W).
        read: What was read in each picture.
        labels: What is written on each picture.
        confidence: float (n,), 0 to 1.
        path: The PNG to write.

    Raises:
        OutputError: The file cannot be written.
    """
    wrong = [index for index, (one, other) in enumerate(zip(read, labels, strict=True)) if one != other]
    worst = sorted(wrong, key=lambda index: -float(confidence[index]))[: _SHEET_ROWS * _SHEET_COLUMNS]
    columns = min(_SHEET_COLUMNS, max(_LEAST_COLUMNS, len(worst)))
    rows = max(1, -(-len(worst) // columns))
    figure = Figure(figsize=(1.45 * columns, 1.75 * rows + 0.4), layout="constrained")
    figure.suptitle(f"{len(wrong)} of {len(images)} sequences misread; the {len(worst)} most confident", fontsize=10)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, index in zip(panels, worst, strict=False):
        panel.imshow(images[index], cmap="gray", vmin=0, vmax=255)
        sure = math.floor(10_000 * float(confidence[index])) / 100  # rounded up, a mistake would be a certainty
        panel.set_title(f"{_compared(labels[index], read[index])}\n{sure:.2f}%", fontsize=8, parse_math=False)
    _save(figure, path)


class _Plain(LogFormatter):
    """Labels the ticks that a logarithmic axis has room to label, without powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _compared(written: str, read: str) -> str:
    return f"{written or NOTHING} read {read or NOTHING}"


def _draw_quadrilateral(axes: Axes, matrix: Any, width: int, height: int, colour: str) -> None:
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]])
    x, y = (corners @ matrix.T + 1).T / 2 * [[width - 1], [height - 1]]
    axes.plot(x, y, color=colour, linewidth=1.5)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
