"""Which versions of ONNX Runtime read a model as its golden vectors say.

Each version is installed into an environment of its own, with no more than NumPy beside it. A model's vectors have to
lie beside it; those of a float32 model hold for an .ort file of the same name too.

Run: python benchmarks/runtimes.py MODEL... [--versions 1.14.1,1.17.3,1.32.0]
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from machine import describe
from rich.console import Console
from rich.table import Table

from exporters.vectors import vectors_file

VERSIONS = "1.14.1,1.15.1,1.16.3,1.17.3,1.18.1,1.20.1,1.22.1,1.24.1,1.32.0"
_CHECK = """
import base64, json, sys
import numpy, onnxruntime
onnxruntime.set_default_logger_severity(4)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
document = json.load(open(sys.argv[2]))
agrees = True
for vector in document["vectors"]:
    levels = numpy.frombuffer(base64.b64decode(vector["image"]), numpy.uint8)
    images = levels.reshape(1, document["height"], document["width"])
    for output, answer in zip(session.get_outputs(), session.run(None, {"images": images})):
        allowed = document["tolerances"].get(output.name, 0)
        agrees &= bool((numpy.abs(answer[0] - numpy.array(vector[output.name])) <= allowed).all())
print("reads" if agrees else "differs")
"""


def main() -> None:
    """Install, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--versions", default=VERSIONS, help="which ones, with commas between")
    options = parser.parse_args()
    table = Table("ONNX Runtime", *(model.name for model in options.models))
    for version in options.versions.split(","):
        table.add_row(version, *answers(version, options.models))
    print(f"{describe()}; Python {sys.version_info.major}.{sys.version_info.minor}")
    Console(width=120).print(table)


def answers(version: str, models: list[Path]) -> list[str]:
    """Return what one version makes of each model: `reads`, `differs`, or the last line of its error."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        numpy = "numpy<2" if int(version.split(".")[1]) < 19 else "numpy"  # those before were built for NumPy 1
        packages = [f"onnxruntime=={version}", numpy]
        installed = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, check=False)
        if installed.returncode:
            return ["not to be had for this Python"] * len(models)
        said = []
        for model in models:
            command = [python, "-c", _CHECK, model, vectors_file(model)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = (done.stdout or done.stderr).strip().splitlines() or [f"ended by signal {-done.returncode}"]
            said.append(lines[-1][:60])
        return said


if __name__ == "__main__":
    main()
