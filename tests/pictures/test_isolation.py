import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnnspn.errors import ConfigError, ImageError
from rnnspn.pictures import images, isolation
from rnnspn.pictures.images import Fitted
from rnnspn.pictures.isolation import Decoder, Decoders
from tests import handmade

SAMPLES = sorted(map(str, (Path(__file__).parents[2] / "assets" / "images").glob("*.png")))
WICKED = """
import os, time
from rnnspn.pictures import images, isolation
real = images.load
def load(path, *arguments):
    name = os.path.basename(path)
    if "crash" in name:
        os.kill(os.getpid(), 11)
    if "hang" in name:
        time.sleep(60)
    if "hungry" in name:
        bytearray(4 * 2**30)
    return real(path, *arguments)
images.load = load
isolation.serve()
"""


@pytest.fixture
def wicked():
    decoder = Decoder(100, 100, time_limit_s=1.5, serve=WICKED)
    yield decoder
    decoder.close()


def _picture(folder: Path, name: str) -> str:
    Image.fromarray(handmade.picture_of("120")).save(folder / name)
    return str(folder / name)


def _codes(found: list[Fitted | ImageError]) -> list[str]:
    return [outcome.code if isinstance(outcome, ImageError) else "read" for outcome in found]


def test_an_isolated_decoder_gives_what_the_one_in_this_process_gives(tmp_path):
    odd = os.fsdecode(bytes(tmp_path) + b"/caf\xe9\n.png")
    Path(odd).write_bytes(Path(SAMPLES[0]).read_bytes())
    (tmp_path / "empty.png").touch()
    paths = [*SAMPLES, odd, str(tmp_path / "empty.png"), str(tmp_path / "missing.png"), str(tmp_path)]
    for polarity in ("auto", "dark-on-light"):
        with Decoders(100, 100, polarity) as decoders, decoders.borrowed() as load:
            found = list(load(paths))
        for outcome, expected in zip(found, images.load_all(paths, 100, 100, polarity), strict=True):
            if isinstance(expected, ImageError):
                assert (outcome.code, str(outcome)) == (expected.code, str(expected))
            else:
                assert outcome.letterbox == expected.letterbox
                np.testing.assert_array_equal(outcome.pixels, expected.pixels)


def test_a_decoder_that_crashes_hangs_or_wants_too_much_memory_costs_one_picture(wicked, tmp_path):
    names = ["a.png", "crash.png", "b.png", "hang.png", "hungry.png", "c.png", "crash2.png"]
    began = time.monotonic()
    found = list(wicked.load([_picture(tmp_path, name) for name in names]))
    assert _codes(found) == ["read", "crashed", "read", "too-slow", "crashed", "read", "crashed"]
    assert "signal 11" in str(found[1])
    assert "exit code 1" in str(found[4])
    assert time.monotonic() - began < 10
    assert _codes(list(wicked.load([_picture(tmp_path, "after.png")]))) == ["read"]


def test_names_that_are_longer_than_a_pipe_holds_do_not_stop_both_sides(wicked, tmp_path):
    paths = [str(tmp_path / "/".join(["x" * 200] * 19) / f"{number}.png") for number in range(100)]
    assert set(_codes(list(wicked.load([*paths, _picture(tmp_path, "a.png")])))) == {"not-found", "read"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", "too-slow"),
        ("00" + "ff" * 8 + "00" * 48, "crashed"),  # an error of 4 GiB
        ("01" + "00" * 56 + "00" * 50, "too-slow"),  # a part of a picture
    ],
)
def test_a_process_that_lies_is_replaced(answer, code, tmp_path, monkeypatch):
    serve = f"import os, time; os.read(0, 100); os.write(1, bytes.fromhex('{answer}')); time.sleep(60)"
    decoder = Decoder(100, 100, time_limit_s=0.7, serve=serve)
    try:
        assert _codes(list(decoder.load([_picture(tmp_path, "a.png")]))) == [code]
    finally:
        decoder.close()


def test_nobody_is_ended_who_waits_for_its_answers_to_be_read(tmp_path):
    side, quick = 1000, "from rnnspn.pictures import isolation; isolation._LAST_S = 1; isolation.serve()"
    paths = [_picture(tmp_path, f"{number}.png") for number in range(4)]  # their answers do not fit into a pipe
    decoder = Decoder(side, side, serve=quick)
    try:
        found = decoder.load(paths)
        outcomes = [next(found)]
        time.sleep(2.5)  # as if this process were stopped
        assert _codes([*outcomes, *found]) == ["read"] * 4
    finally:
        decoder.close()


def test_a_name_that_no_file_can_have_costs_one_record(tmp_path):
    paths = ["\ud800.png", _picture(tmp_path, "good.png")]
    with Decoders(100, 100, "auto") as decoders, decoders.borrowed() as load:
        assert _codes(list(load(paths))) == ["not-found", "read"]


def test_the_processes_end_with_the_run(predictor, tmp_path, monkeypatch):
    started = []
    original = Decoder._start
    monkeypatch.setattr(Decoder, "_start", lambda self: started.append(original(self)) or started[-1])
    path = _picture(tmp_path, "a.png")
    stream = predictor.stream([path] * 500, isolated=True)
    assert next(stream)[0].outcome.digits == "120"
    stream.close()
    assert started
    assert all(process.returncode is not None for process in started)


def test_a_process_that_cannot_be_limited_is_told_so_once(tmp_path):
    refused = "import resource\ndef refuse(*limits): raise ValueError\nresource.setrlimit = refuse\n"
    decoder = Decoder(100, 100, serve=f"{refused}from rnnspn.pictures import isolation; isolation.serve()")
    with pytest.raises(ConfigError, match="leave out --isolate"):
        list(decoder.load([_picture(tmp_path, "a.png")] * 2))
    decoder.close()


def test_a_lower_limit_of_the_system_is_kept_to(tmp_path):
    lower = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (15 * 2**27, 15 * 2**27))\n"
    decoder = Decoder(100, 100, serve=f"{lower}from rnnspn.pictures import isolation; isolation.serve()")
    assert _codes(list(decoder.load([_picture(tmp_path, "a.png")]))) == ["read"]
    decoder.close()


def test_a_service_with_many_open_files_isolates_too(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200 if hard == resource.RLIM_INFINITY else min(1200, hard)
    if wanted < 1200:
        pytest.skip("this system opens no more than 1,024 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        decoder = Decoder(100, 100)
        assert _codes(list(decoder.load([_picture(tmp_path, "a.png")]))) == ["read"]
        decoder.close()
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("isolated", [False, True])
def test_a_wrong_polarity_is_no_fault_of_the_pictures(predictor, isolated, tmp_path):
    with pytest.raises(ValueError, match="expected the polarity"):
        list(predictor.stream([_picture(tmp_path, "a.png")], polarity="dark", isolated=isolated))


def test_a_system_without_limits_is_told_so(monkeypatch):
    monkeypatch.setattr(isolation, "resource", None)
    with pytest.raises(ConfigError, match="leave out --isolate"):
        Decoders(100, 100, "auto")


def test_a_process_is_out_of_reach_of_the_terminal_and_leaves_no_core_file(tmp_path):
    decoder = Decoder(100, 100)
    try:
        assert _codes(list(decoder.load([_picture(tmp_path, "a.png")]))) == ["read"]
        number = decoder._process.pid
        assert os.getsid(number) == number
        assert resource.prlimit(number, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(number, resource.RLIMIT_AS)[0] <= isolation.MEMORY_LIMIT_BYTES
    finally:
        decoder.close()


def test_a_process_that_nobody_ends_any_more_ends_by_itself(tmp_path):
    serve = f"from rnnspn.pictures import isolation\nisolation._LAST_S = 1\n{WICKED}"
    decoder = Decoder(100, 100, serve=serve)
    try:
        decoder._process.stdin.write(isolation._request(_picture(tmp_path, "hang.png"), "auto"))
        assert decoder._process.wait(15) == -signal.SIGALRM
    finally:
        decoder.close()
