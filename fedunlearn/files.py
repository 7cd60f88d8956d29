"""Files that are either whole or not there, whatever kills the process; used on both sides."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedunlearn.errors import RunFolderError

_TEMPORARY_SUFFIX = ".part"


def no_space(path: Path | str) -> RunFolderError:
    """Return the error for a full disk."""
    return RunFolderError(
        f"no space is left to write {path}: free some space on that disk and run the command again; "
        f"what was finished before is kept."
    )


@contextmanager
def told_as_sentence(path: Path, doing: str) -> Iterator[None]:
    """Turn any `OSError` in the block into a RunFolderError; `doing` is "written", "read", …"""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(path) from error
        reason = error.strerror or type(error).__name__
        raise RunFolderError(
            f"{path} cannot be {doing} ({reason}): check that its folder is there and is yours."
        ) from error


def atomic_write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` with `data`: a reader, now or after a crash, sees the old bytes or all the new ones.

    Raises:
        RunFolderError: no space is left, or the file cannot be written.
    """
    with told_as_sentence(path, "written"), _temporary(path, data, mode) as temporary:
        os.replace(temporary, path)
        _sync_folder(path.parent)


def atomic_create_bytes(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Write `data` to `path` unless something is there already; return whether it was written.

    Of several processes that try at once exactly one succeeds.

    Raises:
        RunFolderError: no space is left, or the file cannot be written.
    """
    with told_as_sentence(path, "written"), _temporary(path, data, mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True


def atomic_write_json(path: Path, content: Any, mode: int = 0o644) -> None:
    """Replace `path` with `content` as readable JSON (see `atomic_write_bytes`)."""
    atomic_write_bytes(path, json_bytes(content), mode)


def json_bytes(content: Any) -> bytes:
    """Return `content` as indented UTF-8 JSON."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        RunFolderError: the file is missing, unreadable or damaged.
    """
    with told_as_sentence(path, "read"):
        data = path.read_bytes()
    try:
        return json.loads(data)
    except ValueError as error:
        raise RunFolderError(
            f"{path} is damaged (not JSON): put back a copy of it, or start over in a new folder."
        ) from error


def make_folder(path: Path, mode: int = 0o777) -> Path:
    """Make a folder with its parents, if it is not there yet, and return it.

    Raises:
        RunFolderError: it cannot be made, or a file has its name.
    """
    with told_as_sentence(path, "made"):
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    return path


def remove_leftovers(folder: Path, older_than: float = 3600.0) -> int:
    """Delete what killed writers left half-written, `older_than` seconds ago or more; return how many files.

    The age spares files that another process is writing at this moment.
    """
    removed = 0
    for leftover in folder.glob(f".*{_TEMPORARY_SUFFIX}"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime >= older_than:
                leftover.unlink()
                removed += 1
    return removed


@contextmanager
def _temporary(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """Yield a synced file with `data` beside `path`; it is gone after the block."""
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    if os.name != "posix":  # elsewhere a folder cannot be opened, and the system orders renames itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
