"""What has to be new in a forked process, as the threads that it counts on, or waits for, are not there."""

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something that can begin anew."""

    def renew(self) -> None:
        """Forget all threads."""


_ALL: "WeakSet[Renewable]" = WeakSet()


def renewed_in_forks(one: Renewable) -> None:
    """Let something begin anew, now and in every process that is forked off."""
    one.renew()
    _ALL.add(one)


class Room:
    """A semaphore that a forked process finds empty.

    Args:
        places: Threads that may be in it at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        renewed_in_forks(self)

    def renew(self) -> None:
        """Forget all who are in it."""
        self._semaphore, self._narrowing = threading.Semaphore(self._places), threading.Lock()

    def enter(self) -> None:
        """Wait for a place and take it."""
        self._semaphore.acquire()

    def leave(self) -> None:
        """Give a place back."""
        self._semaphore.release()

    def narrow(self) -> bool:
        """Give up the place that one is in, for good; not the last one, and then say so."""
        with self._narrowing:
            if self._places == 1:
                return False
            self._places -= 1
            return True

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()


def _renew_all() -> None:
    for one in _ALL:
        one.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
