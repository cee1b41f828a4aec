"""Try to break the program, part by part: `python -m tests.torture [PART …]`."""

import argparse
import sys
from pathlib import Path

from tests.torture import disk, kills, load, models, pictures
from tests.torture.record import PAGE, RESULTS, ROOT, Options, keep, measured

PARTS = {
    "corpora": (pictures.read_corpora, "Every file costs one record, whatever it is and whatever it is called"),
    "cut": (pictures.read_cut, "A picture cut short costs one record"),
    "damaged": (pictures.read_damaged, "A damaged picture costs one record"),
    "disk": (disk.torture_disk, "Whatever fails while a file is written, the old one or the new one is there, whole"),
    "kills": (kills.torture_by_kills, "Killed at any moment and started again, it loses nothing and doubles nothing"),
    "load": (load.torture_by_load, "Memory, open files and speed are the same at the end as at the start"),
    "models": (models.torture_models, "A model that is not sound is one line; one that runs reads soundly"),
}


def main(arguments: list[str]) -> int:
    """Run the parts that are named, or all; return 1 when one of them found a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Try to break the program.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--quick", action="store_true", help="the small selection of the ordinary tests")
    parser.add_argument("--flips", type=int, help="damaged pictures; 20000, quick 400")
    parser.add_argument("--mutants", type=int, help="damaged models; 2000, quick 60")
    parser.add_argument("--kills", type=int, help="times that predict is killed; train half as often; 100, quick 2")
    parser.add_argument("--count", type=int, help="pictures of the load test; 100000, quick 12000")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "torture", help="folder of the corpora")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the figures")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    defaults = {"flips": (20_000, 400), "mutants": (2000, 60), "kills": (100, 2), "count": (100_000, 12_000)}
    sizes = {
        name: given_size if (given_size := getattr(given, name)) is not None else size[given.quick]
        for name, size in defaults.items()
    }
    options = Options(seed=given.seed, quick=given.quick, cache=given.cache.absolute(), **sizes)
    failed = False
    for name in given.parts or PARTS:
        part, claim = PARTS[name]
        record = measured(claim, part, options)
        keep(name, record, given.results, PAGE if given.results == RESULTS else None)
        failed |= bool(record["failures"])
        figures = ", ".join(f"{what}: {count}" for what, count in record["tried"].items())
        print(f"{name}: {len(record['failures'])} failures in {record['seconds']} s; {figures}", flush=True)
        for failure in record["failures"]:
            print(f"  {failure}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
