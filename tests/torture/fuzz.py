"""Look for bytes that the reading of pictures or models does not survive, guided by the code they reach (atheris).

Run: python -m tests.torture.fuzz picture|model [--seconds 600] [--corpus .cache/fuzz]

The inputs that reach new code are kept in the corpus, from which the next run goes on. Beside it, a file named
`picture-crash-…`, `-timeout-…` or `-oom-…` is an input that was not survived.
"""

import argparse
import hashlib
import logging
import sys
import warnings
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = ("picture", "model")
MAX_BYTES = 16_384
"""Largest input: beyond it the fuzzer spends its time on copying."""
LIMIT_S = 10
MEMORY_MIB = 4096


def main(arguments: list[str]) -> int:
    """Fuzz one target for a while; the process ends with 0 when nothing was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600, help="how long")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".cache" / "fuzz", help="folder that keeps the inputs")
    given = parser.parse_args(arguments)
    try:
        import atheris
    except ImportError:
        print("expected the package atheris to be installed, found none; pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["rnnspn", "PIL"]):  # nothing of these may be imported before
        from PIL import Image

        from tests.torture import fuzz_targets

        Image.init()
    warnings.simplefilter("ignore")  # Pillow's, one for each damaged tag
    logging.disable()
    corpus = given.corpus / given.target
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in fuzz_targets.seeds(given.target):
        (corpus / hashlib.sha256(seed).hexdigest()[:32]).write_bytes(seed)
    options = [
        f"-max_total_time={given.seconds}",
        f"-timeout={LIMIT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={given.corpus}/{given.target}-",
        "-print_final_stats=1",
    ]
    target = partial(fuzz_targets.TARGETS[given.target], place=given.corpus / f"{given.target}.input")
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
