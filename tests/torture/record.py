"""What a part found: kept as JSON, part by part, and shown as `docs/reliability.md`."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rnnspn.files import write_text
from rnnspn.inference.cores import available_cores

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"

_PACKAGES = ("pillow", "numpy", "onnx", "onnxruntime", "torch", "safetensors")
_SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Options:
    """How far the parts go.

    Attributes:
        seed: Seed of everything random.
        quick: Take the small selection of the ordinary tests; fetch nothing.
        cache: Folder of the fetched corpora.
        flips: Damaged pictures to make.
        mutants: Damaged models to make.
        kills: Times that `predict` is killed; `train` half as often.
        count: Pictures of the load test.
    """

    seed: int
    quick: bool
    cache: Path
    flips: int
    mutants: int
    kills: int
    count: int


@dataclass
class Outcome:
    """What a part did and found.

    Attributes:
        tried: Figures by what they count, in the order they are shown.
        failures: One line each; empty when all is well.
        facts: Further facts, such as digests of the corpora.
    """

    tried: dict[str, int | float | str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)


def measured(claim: str, part: Callable[[Options], Outcome], options: Options) -> dict[str, Any]:
    """Run a part and return its record."""
    started = time.monotonic()
    outcome = part(options)
    return {
        "claim": claim,
        **asdict(outcome),
        "seed": options.seed,
        "seconds": round(time.monotonic() - started, 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
        "machine": f"{platform.system()} on {platform.machine()}, {available_cores()} cores",
    }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def keep(name: str, record: dict[str, Any], results: Path, page: Path | None) -> None:
    """Put one part's record among the others and write the page anew."""
    records = json.loads(results.read_text()) if results.exists() else {}
    records[name] = record
    write_text(results, json.dumps(records, indent=2, ensure_ascii=False) + "\n")
    if page:
        write_text(page, as_page(records))


def as_page(records: dict[str, dict[str, Any]]) -> str:
    """Show the records as Markdown."""
    rows = [
        f"| `{name}` | {record['claim']} | {len(record['failures'])} | {record['seconds']:,.0f} s | {record['date']} |"
        for name, record in records.items()
    ]
    sections = [section for name, record in records.items() for section in _section(name, record)]
    return "\n".join([
        "# Reliability",
        "",
        "What was done to `rnnspn`, and what came of it. `make torture` makes this page again;",
        "`python -m tests.torture NAME …` runs single parts, and leaves the figures of the others as they are.",
        "A small selection of every part runs with the ordinary tests, save `corpora`, which is fetched.",
        "",
        "| part | claim | failures | took | date |",
        "|---|---|---|---|---|",
        *rows,
        *sections,
        "",
    ])  # fmt: skip


def _section(name: str, record: dict[str, Any]) -> list[str]:
    figures = [f"| {what} | {_figure(count)} |" for what, count in record["tried"].items()]
    used = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    facts = [f"- {what}: {fact}" for what, fact in record["facts"].items()]
    failures = [f"- {failure}" for failure in record["failures"][:_SHOWN_FAILURES]]
    left = len(record["failures"]) - len(failures)
    return [
        "",
        f"## {name}",
        "",
        "| what | figure |",
        "|---|---|",
        *figures,
        f"| failures | {len(record['failures'])} |",
        "",
        *facts,
        f"- Seed {record['seed']}; {used}; {record['machine']}.",
        *(["", "Failures:", "", *failures] if failures else []),
        *([f"- and {left} more"] if left else []),
    ]


def _figure(count: float | str) -> str:
    return count if isinstance(count, str) else f"{count:,}"
