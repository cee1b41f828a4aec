"""What reading a picture gives: its digits and where they stand, or why there are none."""

from dataclasses import dataclass, field

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Matrix = tuple[float, ...]

NOTHING = "(nothing)"
"""What people are shown in the place of an empty reading."""


@dataclass(frozen=True)
class Step:
    """One digit of a reading.

    Attributes:
        digit: Its character.
        probability: Its probability, from 0 to 1.
        quad: Corners of the attended quadrilateral, (x, y) in pixels of the picture as displayed (after its EXIF
            orientation), (0, 0) the centre of the top left pixel; they are the glimpse's corners top left, top right,
            bottom right, bottom left, and may lie outside the picture. None for `conv`.
        theta: The affine matrix, row by row; None for `conv`.
    """

    digit: str
    probability: float
    quad: Quad | None
    theta: Matrix | None = field(repr=False)


@dataclass(frozen=True)
class Reading:
    """What a model reads in one picture.

    Attributes:
        digits: The sequence of characters.
        confidence: Product of the probabilities of all steps, those after the end too, from 0 to 1.
        steps: One entry for each digit.
        provider: What ran the model: `cpu`, `cuda`, `cuda-tf32`, `openvino` or `openvino-bfloat16`.
        model_sha256: SHA-256 of the model file, in hexadecimal.
        polarity: What was asked for: `auto`, `dark-on-light` or `light-on-dark`.
    """

    digits: str
    confidence: float
    steps: tuple[Step, ...]
    provider: str
    model_sha256: str = field(repr=False)
    polarity: str = field(repr=False)


@dataclass(frozen=True)
class Failure:
    """Why a picture could not be read.

    Attributes:
        code: A stable word for programs; `decoding` lists them.
        message: One line for a person.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Record:
    """What became of one path.

    Attributes:
        path: The path, as `os.fsdecode` makes it.
        outcome: The reading, or why there is none.
    """

    path: str
    outcome: Reading | Failure
