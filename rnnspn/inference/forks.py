"""Room for a number of threads, which a forked process finds empty: the threads that were in it are not there."""

import os
import threading
from weakref import WeakSet


class Room:
    """A semaphore that is new in a forked process.

    Args:
        places: Threads that may be in it at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self.clear()
        _ROOMS.add(self)

    def clear(self) -> None:
        """Forget all who are in it."""
        self._semaphore = threading.Semaphore(self._places)

    def enter(self) -> None:
        """Wait for a place and take it."""
        self._semaphore.acquire()

    def leave(self) -> None:
        """Give a place back."""
        self._semaphore.release()

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()


_ROOMS: "WeakSet[Room]" = WeakSet()


def _clear_all() -> None:
    for room in _ROOMS:
        room.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clear_all)
