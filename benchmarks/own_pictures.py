"""How well `rnnspn train --data FOLDER` learns pictures that are nothing like MNIST, by the number of labelled ones.

Draws pictures of a meter: dark printed digits on light paper, in one line that is turned, moved and sized anew each
time, among lines and specks, with noise; then runs `train`, `export` and `evaluate` on them as a user would.

Run: python benchmarks/own_pictures.py [--counts 300,1000,3000] [--places] [--length 5] [--epochs N]
       [--empty 0.1] [--tight] [--set NAME=VALUE] [--start-from bundled] [--keep FOLDER]
"""

import argparse
import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from machine import describe
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
TEST_COUNT = 2000
WIDTH, HEIGHT = 240, 140


class Kind(NamedTuple):
    """What is written on the pictures."""

    lengths: range
    alphabet: str
    empty: float  # share of the pictures with nothing on them
    tight: bool  # cut to the characters, which then reach the border


def main() -> None:
    """Train on more and more pictures and print the errors on others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default="300,1000,3000", help="labelled pictures to learn from")
    parser.add_argument("--places", action="store_true", help="the labels say where the first and last character are")
    parser.add_argument("--length", default="5", help="characters in a picture, such as 5 or 3-6")
    parser.add_argument("--alphabet", default="0123456789")
    parser.add_argument("--empty", type=float, default=0.0, help="share of the pictures with nothing on them")
    parser.add_argument("--tight", action="store_true", help="pictures are cut to their characters")
    parser.add_argument("--set", action="append", default=[], help="as of rnnspn train")
    parser.add_argument("--epochs", type=int, help="the recipe's by default")
    parser.add_argument("--start-from", help="as of rnnspn train; random weights by default")
    parser.add_argument("--keep", type=Path, help="keep pictures and runs in this folder")
    options = parser.parse_args()
    shortest, _, longest = options.length.partition("-")
    kind = Kind(range(int(shortest), int(longest or shortest) + 1), options.alphabet, options.empty, options.tight)
    print(describe(), flush=True)
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        draw_all(folder / "test", TEST_COUNT, kind, seed=1, places=False)
        if kind.empty:
            draw_all(folder / "nothing", TEST_COUNT, kind._replace(empty=1.0), seed=3, places=False)
        for count in map(int, options.counts.split(",")):
            draw_all(folder / f"train-{count}", count, kind, seed=2, places=options.places)
            began = time.perf_counter()
            learn(folder, f"train-{count}", options.epochs, options.start_from, options.set)
            score = evaluate(folder, f"train-{count}.onnx", "test")
            low, high = (f"{100 * edge:.2f}" for edge in score["sequence_error_interval"])
            print(
                f"{count} pictures: {score['digit_error']:.2%} per character, "
                f"{score['sequence_error']:.2%} per sequence ({low} to {high} %, n = {TEST_COUNT}), "
                f"{time.perf_counter() - began:,.0f} s",
                flush=True,
            )
            if kind.empty:
                score = evaluate(folder, f"train-{count}.onnx", "nothing")
                print(f"  something read in {score['wrong_sequences']} of {TEST_COUNT} with nothing", flush=True)


def learn(folder: Path, name: str, epochs: int | None, start_from: str | None, values: list[str]) -> None:
    """Train and export as a user would."""
    run = f"run-{name}"
    options = [("--epochs", epochs), ("--start-from", start_from), *(("--set", value) for value in values)]
    given = [word for option, value in options if value is not None for word in (option, str(value))]
    rnnspn(folder, "train", "--data", name, "--out", run, "--quiet", *given)
    rnnspn(folder, "export", f"{name}.onnx", "--checkpoint", f"{run}/model.safetensors", "--quiet")


def evaluate(folder: Path, model: str, name: str) -> dict[str, float]:
    """Evaluate as a user would; return the score."""
    score: dict[str, float] = json.loads(rnnspn(folder, "evaluate", model, "--data", name, "--json"))
    return score


def rnnspn(folder: Path, *arguments: str) -> str:
    """Run a command to its end and return what it prints."""
    command = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def draw_all(folder: Path, count: int, kind: Kind, seed: int, places: bool) -> None:
    """Write so many pictures and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    rows = ["path,label,x1,y1,x2,y2" if places else "path,label"]
    for number in range(count):
        empty = kind.empty and chance.random() < kind.empty
        label = "" if empty else "".join(chance.choices(kind.alphabet, k=chance.choice(kind.lengths)))
        image, ends = draw(label, chance, kind.tight)
        image.save(folder / f"{number:05}.png")
        more = "".join(f",{value:.1f}" for end in ends for value in end) if label else ",,,,"
        rows.append(f"{number:05}.png,{label}{more if places else ''}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def draw(label: str, chance: random.Random, tight: bool) -> tuple[Image.Image, list[tuple[float, float]]]:
    """Draw one picture; return it, and the centres of its first and last character in pixels."""
    paper, ink = chance.randint(170, 250), chance.randint(0, 90)
    image = Image.new("L", (WIDTH, HEIGHT), paper)
    pen = ImageDraw.Draw(image)
    for _ in range(chance.randint(3, 8)):
        ends = [chance.randint(0, limit) for limit in (WIDTH, HEIGHT, WIDTH, HEIGHT)]
        pen.line(ends, fill=chance.randint(ink, paper), width=chance.randint(1, 3))
    for _ in range(chance.randint(0, 12)):
        x, y, radius = chance.randint(0, WIDTH), chance.randint(0, HEIGHT), chance.randint(1, 4)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=chance.randint(ink, paper))
    size = chance.uniform(24, 36)
    line = Image.new("L", (WIDTH, HEIGHT), 0)
    place, font, text = (WIDTH / 2, HEIGHT / 2), ImageFont.load_default(size), " ".join(label)
    ImageDraw.Draw(line).text(place, text, font=font, fill=255, anchor="mm")
    angle, right, down = chance.gauss(0, 5), chance.randint(-25, 25), chance.randint(-35, 35)
    turned = line.rotate(angle, Image.Resampling.BICUBIC, translate=(right, down))
    half, along = font.getlength(text) / 2, (math.cos(math.radians(angle)), -math.sin(math.radians(angle)))
    image.paste(ink, mask=turned)
    reaches = (font.getlength(label[:1]) / 2 - half, half - font.getlength(label[-1:]) / 2)  # from the middle
    ends = [(place[0] + right + reach * along[0], place[1] + down + reach * along[1]) for reach in reaches]
    noise = np.random.default_rng(chance.randrange(2**32)).normal(0, chance.uniform(2, 14), (HEIGHT, WIDTH))
    shade = 20 * math.sin(chance.uniform(0, 7)) * np.linspace(-1, 1, WIDTH)
    image = Image.fromarray((np.asarray(image) + noise + shade).clip(0, 255).astype(np.uint8))
    box = turned.getbbox()
    if not tight or box is None:
        return image, ends
    left, top, right, bottom = (
        edge + margin * chance.randint(0, 4) for edge, margin in zip(box, (-1, -1, 1, 1), strict=True)
    )
    left, top = max(left, 0), max(top, 0)
    cut = image.crop((left, top, min(right, WIDTH), min(bottom, HEIGHT)))
    return cut, [(x - left, y - top) for x, y in ends]


if __name__ == "__main__":
    main()
