"""Turn what a user names into a list of picture paths: files, folders, globs, `@list.txt` and `-`."""

# ruff: noqa: PTH100, PTH112, PTH114, PTH116, PTH118, PTH123, PTH206, PTH207, PTH208
# Names stay exactly as they were given: pathlib would tidy them up.

import codecs
import glob
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from rnnspn.errors import InputError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp"),
    *(".tif", ".tiff", ".pnm", ".pbm", ".pgm", ".ppm", ".pfm"),
)
"""Endings, in lower case, of the pictures that can be read."""
OTHER_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".jp2")
"""Endings of pictures that cannot be read: they are taken from a folder too, so that each is said to have failed."""


def collect(arguments: Iterable[str], stdin: BinaryIO) -> list[str]:
    """List the pictures that the arguments name, in order, each path once.

    A file is taken whatever its ending. A folder gives, sorted and recursively, what ends as pictures do and is not
    hidden; its links to folders are followed last, each folder once. A list holds one path a line (or NUL-ended, when
    it has a NUL), relative to the working folder; what it names is not expanded further, save folders, and may be
    missing: that costs its own record. A folder that cannot be listed stands for itself, so that it too ends as a
    failed record.

    Args:
        arguments: Paths, glob patterns, `@FILE` for a list of paths, `-` for a list on the standard input.
        stdin: The standard input.

    Returns:
        Paths as `os.fsdecode` makes them: any bytes survive.

    Raises:
        InputError: A named path or list is missing, a list is no list, a pattern matches nothing, or there is no
            picture at all.
    """
    given = list(arguments)
    expanded = [path for argument in given for path in _expanded(argument, stdin)]
    folders: set[tuple[int, int]] = set()
    seen: set[str] = set()
    listed = []
    for path in expanded:
        for found in _walk(path, folders) if os.path.isdir(path) else (path,):
            key = _identity(found)
            if key not in seen:
                seen.add(key)
                listed.append(found)
    if not listed:
        named = ", ".join("the standard input" if argument == "-" else argument for argument in given)
        raise InputError(
            f"expected pictures, found none in {named}; a folder's are those ending in {' '.join(SUFFIXES)}"
        )
    return listed


def _expanded(argument: str, stdin: BinaryIO) -> list[str]:
    if argument == "-":
        return _lines(stdin.read(), "the standard input")
    if os.path.lexists(argument):
        return [argument]
    if argument.startswith("@"):
        try:
            with open(argument[1:], "rb") as file:
                return _lines(file.read(), argument[1:])
        except OSError as error:
            raise InputError(f"cannot read the list {argument[1:]}: {error.strerror}; name a readable file") from None
    if glob.has_magic(argument):
        if matches := sorted(set(_matches(argument))):
            return matches
        raise InputError(f"nothing matches {argument}; name pictures, folders or patterns that exist")
    raise InputError(f"there is no file or folder {argument}; name pictures, folders or patterns that exist")


def _matches(pattern: str) -> Iterator[str]:
    """Expand a pattern; `**` stands for a folder and all below it, each once, whatever links lead there."""
    if pattern.startswith(f"**{os.sep}"):
        tops, rest = [""], pattern[3:]
    else:
        head, found, rest = pattern.partition(f"{os.sep}**{os.sep}")
        tops = glob.glob(head or os.sep)
        if not found:
            yield from tops
            return
    for top in tops:
        for folder in _folders(top):
            yield from _matches(os.path.join(glob.escape(folder), rest))


def _folders(top: str) -> Iterator[str]:
    """Yield a folder and those below it, each once, but none that is hidden."""
    waiting, seen = [top], set()
    while waiting:
        path = waiting.pop()
        try:
            status = os.stat(path or os.curdir)
            names = sorted(os.listdir(path or os.curdir), reverse=True)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path
            children = [os.path.join(path, name) for name in names if not name.startswith(".")]
            waiting += filter(os.path.isdir, children)


def _identity(path: str) -> str:
    """Return what tells a path from others: its spelling without detours; what `..` means hangs on links before it."""
    if os.pardir in path.split(os.sep):
        folder, name = os.path.split(path)
        return os.path.join(os.path.realpath(folder), name)
    return os.path.abspath(path)


def _lines(data: bytes, name: str) -> list[str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as some shells of Windows write
        data = data.decode("utf-16", "replace").encode("utf-8", "replace")
    data = data.removeprefix(codecs.BOM_UTF8)  # which some editors put there
    if b"\0\0\0" in data:  # a picture, say
        raise InputError(f"expected a list of paths, one a line, in {name}; got something else")
    lines = data.split(b"\0") if b"\0" in data else (line.removesuffix(b"\r") for line in data.split(b"\n"))
    return [os.fsdecode(line) for line in lines if line]


def _walk(top: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Walk a folder in sorted order; `seen` tells folders apart by device and inode, which ends loops of links."""
    waiting, linked = [top], list[str]()
    while waiting or linked:
        path = (waiting or linked).pop()
        if not os.path.isdir(path):
            yield path
            continue
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted(os.listdir(path), reverse=True)
        except OSError:
            yield path
            continue
        for name in names:
            child = os.path.join(path, name)
            if name.startswith("."):
                continue
            if os.path.isdir(child):
                (linked if os.path.islink(child) else waiting).append(child)
            elif name.lower().endswith(SUFFIXES + OTHER_SUFFIXES):
                waiting.append(child)
