"""Fetch pictures that are meant to break readers: Pillow's and libpng's own test files, from the package registries."""

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

PILLOW = "13.0.0"
LIBPNG = "libpng1.6"

_APT_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))


class MissingCorpusError(Exception):
    """A corpus that cannot be had here."""


def pillow(cache: Path) -> tuple[list[Path], str]:
    """Return the test pictures of Pillow's source distribution and its SHA-256.

    Raises:
        MissingCorpusError: The package index does not give it.
    """
    archive = cache / f"pillow-{PILLOW}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "pillow"]
        _fetch([*command, "--dest", str(cache), f"pillow=={PILLOW}"], cache)
    return _unpacked(archive, cache / "pillow", "Tests/images/"), _digest(archive)


def libpng(cache: Path) -> tuple[list[Path], str]:
    """Return the pictures of libpng's source package, the crashers among them, and its SHA-256.

    Raises:
        MissingCorpusError: There is no apt, or it does not give the package.
    """
    if not (archives := sorted(cache.glob(f"{LIBPNG}_*.orig.tar.*z"))):
        options = _apt_options(cache / "apt")
        _fetch(["apt-get", "--quiet", *options, "update"], cache)
        _fetch(["apt-get", "--quiet", *options, "source", "--download-only", "--tar-only", LIBPNG], cache)
        archives = sorted(cache.glob(f"{LIBPNG}_*.orig.tar.*z"))
    if not archives:
        raise MissingCorpusError(f"apt gave no {LIBPNG}")
    return _unpacked(archives[-1], cache / "libpng", ""), _digest(archives[-1])


def _apt_options(folder: Path) -> list[str]:
    """Point apt at the source packages of this machine's own Debian, in a folder apart from the system's."""
    for name in ("lists/partial", "cache", "sources.list.d"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for place in _APT_SOURCES:
        if place.exists():
            text = re.sub(r"^(Types: *)deb\b", r"\1deb-src", place.read_text(), flags=re.MULTILINE)
            (folder / "sources.list.d" / f"{place.stem}{place.suffix}").write_text(
                re.sub(r"^deb ", "deb-src ", text, flags=re.MULTILINE)
            )
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources.list.d",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _fetch(command: list[str], cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, cwd=cache, check=True, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        raise MissingCorpusError(f"there is no {command[0]} here") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or error).strip().splitlines()[-1:]
        raise MissingCorpusError(f"{command[0]} did not fetch it: {' '.join(said)}") from None


def _unpacked(archive: Path, folder: Path, wanted: str) -> list[Path]:
    """Unpack an archive once; return its files under the wanted folder, whatever they are."""
    if not folder.exists():
        fresh = folder.with_name(f"{folder.name}.part")
        with tarfile.open(archive) as tar:
            tar.extractall(fresh, filter="data")
        fresh.rename(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file() and f"/{wanted}" in path.as_posix())


def _digest(archive: Path) -> str:
    return f"{archive.name}, sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}"
