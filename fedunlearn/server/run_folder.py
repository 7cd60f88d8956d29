"""The folder of a run: where everything lies, and who may work in it."""

from __future__ import annotations

import hashlib
import re
import shlex
import uuid
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from fedunlearn.config import EXECUTION, FederationSettings, make_settings
from fedunlearn.errors import RunFolderError, SettingsError
from fedunlearn.files import atomic_write_json, make_folder, read_json, remove_leftovers, told_as_sentence
from fedunlearn.server.folder_lock import FolderLock

FORMAT = 2
"""The version of the folder's layout that this package writes; it reads older ones, and makes them new."""

_RUN_FILE = "run.json"

_OWN_NAMES = (
    *("ledger.sqlite", "server-key.pem", "initial-model.json", "report.html"),
    *("comparison.json", "comparison.csv", "comparison.md"),
    *("models", "clients", "audit", "certificates", "figures", "halves"),
)
"""What a run writes beside its run file, and may write over or delete."""


class RunFolder:
    """A run on disk.

    `run.json` (format, run id, settings, time of creation, address of the ledger), `ledger.sqlite`,
    `server-key.pem`, `models/`, `clients/<id>/` (what in a deployment lies on the client's machine), `audit/`,
    `certificates/`, `figures/`, `report.html`.
    """

    def __init__(
        self,
        path: Path,
        settings: FederationSettings,
        created: str,
        run: str | None = None,
        ledger_url: str | None = None,
    ) -> None:
        """Wrap a folder that is known to hold a run; use `RunFolder.create` or `RunFolder.open`."""
        self.path = path
        self.settings = settings
        self.created = created
        """UTC, in ISO 8601."""
        self.run = run
        """The run's id, 32 hexadecimal digits."""
        self._ledger_url = ledger_url
        self._lock = FolderLock(path / "run.lock")

    @staticmethod
    def of(path: Path | str, settings: FederationSettings, ledger: str | None = None) -> RunFolder:
        """Go on with the run in `path`, or make one; rounds and how it is executed may be other than they were.

        Args:
            ledger: as for `create`; None goes on with the ledger that the run has.

        Raises:
            RunFolderError: `path` holds a run that differs in anything else, or cannot be written.
        """
        if not RunFolder.exists(path):
            return RunFolder.create(path, settings, ledger)
        found = RunFolder.open(path)
        if ledger is not None and ledger != found._ledger_url:
            raise RunFolderError(
                f"the run in {path} has its ledger at {found._ledger_url or 'its own ledger.sqlite'}, not at {ledger}: "
                f"leave the address out, or choose another folder."
            )
        there, asked = (one.model_dump(exclude={"rounds", *EXECUTION}) for one in (found.settings, settings))
        if there != asked:
            names = [name for name in there if there[name] != asked[name]]
            differences = ", ".join(f"{name}: {there[name]!r} there, {asked[name]!r} asked" for name in names)
            raise RunFolderError(f"{path} holds a run with other settings ({differences}); choose another folder.")
        unprepared = [name for name in settings.prepared_methods if name not in found.settings.prepared_methods]
        if unprepared:
            raise RunFolderError(
                f"{path} holds a run whose clients prepared nothing for {', '.join(unprepared)}, which takes all of "
                "the training; choose another folder, or leave what needs it out."
            )
        settings = settings.model_copy(update={"prepare_for": found.settings.prepare_for})
        return RunFolder(found.path, settings, found.created, found.run, found._ledger_url)

    @staticmethod
    def create(path: Path | str, settings: FederationSettings, ledger: str | None = None) -> RunFolder:
        """Make a new run in `path`, which need not be there yet.

        Args:
            ledger: SQLAlchemy URL of an empty database for the ledger, without a password, which its driver finds
                in its own places (PGPASSWORD, .pgpass); None: `ledger.sqlite` in the folder.

        Raises:
            RunFolderError: `path` already holds a run, or something that a run would write over, or cannot be
                written, or the URL is none or has a password.
        """
        _check_url(ledger)
        folder = make_folder(Path(path).absolute())
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        run = RunFolder(folder, settings, created, uuid.uuid4().hex, ledger)
        with run.locked("making the run", wait=0):
            if (folder / _RUN_FILE).exists():
                raise RunFolderError(f"{folder} already holds a run: open it, or choose another folder for a new one.")
            _check_that_nothing_is_lost(folder)
            for part in (run.models, run.clients, run.audit, run.figures):
                make_folder(part)
            # Last: a folder with run.json is complete, and after a crash before it, creating starts again.
            atomic_write_json(folder / _RUN_FILE, run._content())
        return run

    @staticmethod
    def open(path: Path | str) -> RunFolder:
        """Open the run in `path`; one of an older format is written in this one, which older versions refuse.

        Raises:
            RunFolderError: no run is there, it is damaged, or a newer version of the package made it.
        """
        folder = Path(path).absolute()
        run_file = folder / _RUN_FILE
        if not run_file.is_file():
            raise RunFolderError(
                f"{folder} holds no run (there is no {_RUN_FILE}): make one with "
                f"`fedunlearn simulate --out {shlex.quote(str(path))}`, or name the folder of an existing run."
            )
        content = read_json(run_file)
        version = content.get("format") if isinstance(content, dict) else None
        if not isinstance(version, int) or version < 1:
            raise RunFolderError(f"{run_file} is damaged: expected the format number of a run; put back a copy of it.")
        if version > FORMAT:
            raise RunFolderError(
                f"{folder} was made by a newer version (format {version}; this one reads up to {FORMAT}): "
                f"upgrade with `pip install --upgrade fedunlearn`."
            )
        if version < FORMAT:
            # Of the folder's own content, so that two processes that open it at once agree.
            content["run"] = hashlib.sha256(b"fedunlearn-run-1\n" + run_file.read_bytes()).hexdigest()[:32]
        try:
            settings = make_settings(FederationSettings, content["settings"])
            found = RunFolder(folder, settings, str(content["created"]), str(content["run"]), content.get("ledger"))
            if not re.fullmatch("[0-9a-f]{32}", str(found.run)):
                raise ValueError("the run's id is none")
        except (SettingsError, KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{run_file} is damaged ({error}): put back a copy of it.") from error
        if version < FORMAT:
            # Before the ledger is migrated: a version that knows no chain must not write to it afterwards.
            atomic_write_json(run_file, found._content())
        return found

    @staticmethod
    def exists(path: Path | str) -> bool:
        """Return whether `path` holds a run (of whatever version)."""
        return (Path(path) / _RUN_FILE).is_file()

    def locked(self, doing: str, wait: float = 10.0) -> AbstractContextManager[None]:
        """Hold the folder for one job; the same thread may nest it.

        `doing` is told to others ("unlearn"); `wait` is how many seconds to wait for whoever holds it. A
        holder that is killed frees the folder at once.

        Raises:
            RunFolderError: somebody else held it all that time; the sentence names the process.
        """
        return self._lock.held(doing, wait)

    def tidy(self) -> int:
        """Delete files that killed jobs left half-written an hour ago or more; return how many."""
        folders = [self.path, self.models, self.audit, self.figures]
        folders += [path for path in self.clients.rglob("*") if path.is_dir()]
        return sum(remove_leftovers(folder) for folder in folders if folder.is_dir())

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the run's ledger."""
        return self._ledger_url or f"sqlite:///{self.ledger}"

    @property
    def ledger(self) -> Path:
        """The ledger's file, where it is one of the folder's own."""
        return self.path / "ledger.sqlite"

    @property
    def server_key(self) -> Path:
        """The file of the run's private key."""
        return self.path / "server-key.pem"

    @property
    def certificates(self) -> Path:
        """The folder of evidence bundles."""
        return self.path / "certificates"

    @property
    def models(self) -> Path:
        """The folder of the server's models."""
        return self.path / "models"

    @property
    def clients(self) -> Path:
        """The folder that holds the clients' folders."""
        return self.path / "clients"

    def client(self, client: int) -> Path:
        """Return the folder of one client, which is made if it is not there."""
        return make_folder(self.clients / str(int(client)))

    @property
    def audit(self) -> Path:
        """The folder of audit results."""
        return self.path / "audit"

    @property
    def halves(self) -> Path:
        """The folder of two federations that each did without half of the samples, where it was asked which of them
        are memorised."""
        return self.path / "halves"

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.path / "report.html"

    def _content(self) -> dict[str, Any]:
        """What is written into the run file."""
        settings = self.settings.model_dump(mode="json")
        return {
            "format": FORMAT,
            "run": self.run,
            "settings": settings,
            "created": self.created,
            "ledger": self._ledger_url,
        }


def _check_that_nothing_is_lost(folder: Path) -> None:
    """Raise RunFolderError where somebody else's files have the names of a run's; empty folders are no loss."""
    for path in (folder / name for name in _OWN_NAMES):
        with told_as_sentence(path, "read"):
            taken = any(path.iterdir()) if path.is_dir() else path.exists()
        if taken:
            raise RunFolderError(
                f"{folder} holds {path.name!r} and no {_RUN_FILE}, so that it is no run, and a run would write over "
                f"it: choose a folder that is new or empty, or put back {_RUN_FILE} if it was a run."
            )


def _check_url(ledger: str | None) -> None:
    """Raise RunFolderError for an address that is none, or that would put a password into the run folder."""
    try:
        password = None if ledger is None else make_url(ledger).password
    except ArgumentError as error:
        raise RunFolderError(
            f"the address of the ledger cannot be used ({error}): expected an SQLAlchemy URL such as "
            f"postgresql+psycopg://user@host/database."
        ) from error
    if password is not None:
        raise RunFolderError(
            "the address of the ledger holds a password, which would lie readable in the run folder: leave it out, "
            "and give it in PGPASSWORD or ~/.pgpass, where the driver looks for it."
        )
