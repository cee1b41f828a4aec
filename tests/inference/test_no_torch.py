import subprocess
import sys
from importlib.util import find_spec

import pytest

CHECK = """
import sys
{before}
import numpy, rnnspn
reading = rnnspn.load(sys.argv[1]).predict(numpy.zeros((1, 100, 100), numpy.uint8))[0]
assert reading.digits == "000"
{heavy}
sys.exit(", ".join(name for name in heavy if name in sys.modules) or 0)
"""
HEAVY = "heavy = ('torch', 'matplotlib', 'onnxscript', 'rnnspn.models', 'rnnspn.training', 'rnnspn.data', 'exporters')"


def _run(model_path, before: str) -> subprocess.CompletedProcess:
    code = CHECK.format(before=before, heavy=HEAVY)
    return subprocess.run([sys.executable, "-c", code, model_path], capture_output=True, text=True, check=False)


def test_predicting_imports_neither_torch_nor_the_training_half(model_path):
    result = _run(model_path, "")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed here")
def test_the_test_above_can_fail(model_path):
    result = _run(model_path, "import rnnspn.models.networks")
    assert (result.returncode, result.stderr) == (1, "torch, rnnspn.models\n")
