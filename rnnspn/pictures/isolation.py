"""Decode pictures in processes of their own: a decoder that crashes, hangs or wants too much memory costs one record.

A process answers one request after the other. A request is a path and the polarity; an answer is a head and a body,
pixels or the words of an error. The head's sizes are checked before the body is read: nothing that a process says can
make this one run code, wait for ever, or take more memory than a picture needs.

Shapes: H x W pixels.
"""

import contextlib
import functools
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rnnspn.errors import ConfigError, ImageError, OutputError
from rnnspn.pictures import images
from rnnspn.pictures.images import Fitted, Letterbox
from rnnspn.pictures.polarity import Polarity, expect_polarity

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None  # type: ignore[assignment]

Load = Callable[[Sequence[str]], Iterator[Fitted | ImageError]]
"""Decodes and fits files, one after the other; what cannot be read is given as its error."""

TIME_LIMIT_S = 10.0
"""Longest time that a picture may take."""
MEMORY_LIMIT_BYTES = 2 * 2**30
"""Largest address space of a process."""

_UNLIMITED = 78
"""Exit code of a process whose memory this system does not limit."""
_LAST_S = math.ceil(2 * TIME_LIMIT_S)
"""Seconds after which a process that still decodes a picture ends by itself."""

_REQUEST = struct.Struct("<I16s")  # length of the path, polarity
_ANSWER = struct.Struct("<?II6q")  # whether it was read, lengths of code and message, letterbox
_LONGEST = 4096
"""Bytes of a code or message."""
_AHEAD_BYTES = 16 * 2**10
"""Requests under way: less than any pipe holds."""
_PIPE_BYTES = 2**20
_NO_LIMIT = "expected a system that can limit a process's memory, such as Linux; leave out --isolate"
_SERVE = "from rnnspn.pictures.isolation import serve; serve()"


class Decoder:
    """A process that decodes and fits pictures; a new one takes its place when it has to be ended.

    Args:
        height: Input height H in pixels.
        width: Input width W in pixels.
        time_limit_s: Longest time that a picture may take.
        serve: What the process runs.
    """

    def __init__(self, height: int, width: int, *, time_limit_s: float = TIME_LIMIT_S, serve: str = _SERVE) -> None:
        self._height, self._width, self._time_limit_s, self._serve = height, width, time_limit_s, serve
        self._closed = False
        self._process = self._start()

    def load(self, paths: Sequence[str], polarity: Polarity = "auto") -> Iterator[Fitted | ImageError]:
        """Decode and fit files as `images.load` does; what cannot be read is given as its error.

        `crashed` and `too-slow` are the codes of files on which the process had to be replaced. It ends early when the
        decoder is closed meanwhile.

        Raises:
            ConfigError: This system does not limit the memory of a process.
        """
        requests = [_request(path, polarity) for path in paths]
        sent = 0
        for done in range(len(paths)):
            sent = self._send(requests, done, sent)
            try:
                yield self._receive()
            except TimeoutError:
                if self._closed:
                    return
                self._replace()
                sent = done + 1
                yield ImageError("too-slow", f"decoding takes more than {self._time_limit_s:g} seconds")
            except (EOFError, OSError, struct.error):
                if self._closed:
                    return
                status = self._replace()
                if status == _UNLIMITED:
                    raise ConfigError(_NO_LIMIT) from None
                sent = done + 1
                how = f"signal {-status}" if status < 0 else f"exit code {status}"
                yield ImageError("crashed", f"the decoder crashed on it ({how})")

    def close(self) -> None:
        """End the process."""
        self.kill()
        self._process.communicate()

    def kill(self) -> None:
        """Let the process end in the middle of a picture, for which a thread may be waiting; `close` has to follow."""
        self._closed = True
        self._process.kill()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-P", "-c", self._serve, str(self._height), str(self._width)]  # -P: not from here
        self._received = bytearray()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise OutputError(f"cannot start a process to decode pictures: {error.strerror or error}") from error
        if hasattr(fcntl, "F_SETPIPE_SZ") and process.stdout:  # room for the answers to a whole batch
            with contextlib.suppress(OSError):
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return process

    def _replace(self) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # one that closed its pipe is about to end by itself, and to say how
        self._process.kill()
        self._process.communicate()
        status = self._process.returncode
        self._process = self._start()
        return status

    def _send(self, requests: Sequence[bytes], done: int, sent: int) -> int:
        """Send requests ahead, as many as fit into a pipe for certain: else each side might wait for the other."""
        assert self._process.stdin is not None
        waiting = sum(map(len, requests[done:sent]))
        with contextlib.suppress(BrokenPipeError):  # the answers tell on which request it died
            while sent < len(requests) and (sent == done or waiting + len(requests[sent]) <= _AHEAD_BYTES):
                self._process.stdin.write(requests[sent])
                waiting += len(requests[sent])
                sent += 1
        return max(sent, done + 1)

    def _receive(self) -> Fitted | ImageError:
        until = time.monotonic() + self._time_limit_s
        read, first, second, *letterbox = _ANSWER.unpack(self._take(_ANSWER.size, until))
        if read:
            pixels = np.frombuffer(self._take(self._height * self._width, until), np.uint8)
            return Fitted(pixels.reshape(self._height, self._width), Letterbox(*letterbox))
        if max(first, second) > _LONGEST:
            raise EOFError
        code, message = (self._take(length, until).decode("utf-8", "replace") for length in (first, second))
        return ImageError(code, message)

    def _take(self, size: int, until: float) -> bytes:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        coming = select.poll()
        coming.register(handle, select.POLLIN)  # tells of its end, too
        while len(self._received) < size:
            if not coming.poll(1000 * max(0.0, until - time.monotonic())):
                raise TimeoutError
            if not (more := os.read(handle, _PIPE_BYTES)):
                raise EOFError
            self._received += more
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


def _request(path: str, polarity: Polarity) -> bytes:
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = b""  # no file has such a name, nor this one
    return _REQUEST.pack(len(name), polarity.encode()) + name


class Decoders:
    """As many decoders as are borrowed at a time; all end with the block that they are made for.

    Args:
        height: Input height H in pixels.
        width: Input width W in pixels.
        polarity: As for `images.fit`.

    Raises:
        ConfigError: This system cannot limit a process.
    """

    def __init__(self, height: int, width: int, polarity: Polarity) -> None:
        if resource is None:
            raise ConfigError(_NO_LIMIT)
        expect_polarity(polarity)
        self._make = functools.partial(Decoder, height, width)
        self._polarity = polarity
        self._all: list[Decoder] = []
        self._idle: deque[Decoder] = deque()
        self._closed = False

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for decoder in self._all:
            decoder.kill()
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[Load]:
        """Give the `load` of a decoder that nobody else uses meanwhile."""
        try:
            decoder = self._idle.pop()
        except IndexError:
            decoder = self._make()
            self._all.append(decoder)
        try:
            yield lambda paths: decoder.load(paths, self._polarity)
        finally:
            if self._closed:
                decoder.close()
            else:
                self._idle.append(decoder)


def serve() -> None:
    """Answer requests on the standard input until it ends; what runs in the process of a `Decoder`."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        sys.exit(_UNLIMITED)
    requests, answers = os.fdopen(0, "rb"), os.fdopen(1, "wb")
    height, width = int(sys.argv[1]), int(sys.argv[2])
    while head := requests.read(_REQUEST.size):
        length, polarity = _REQUEST.unpack(head)
        path = os.fsdecode(requests.read(length))
        signal.alarm(_LAST_S)  # ends it where nobody is left to do so
        answer = _answer(path, height, width, polarity.rstrip(b"\0").decode())
        signal.alarm(0)  # whoever asked may be stopped meanwhile, and read no answer for long
        answers.writelines(answer)
        answers.flush()


def _answer(path: str, height: int, width: int, polarity: Polarity) -> Sequence[bytes]:
    try:
        fitted = images.load(path, height, width, polarity)
    except ImageError as error:
        code, message = (text.encode("utf-8", "replace")[:_LONGEST] for text in (error.code, str(error)))
        return _ANSWER.pack(False, len(code), len(message), *[0] * 6), code, message
    return _ANSWER.pack(True, 0, 0, *fitted.letterbox), fitted.pixels.tobytes()
