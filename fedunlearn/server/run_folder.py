"""The folder of a run: where everything lies, and who may work in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from fedunlearn.config import FederationSettings, make_settings
from fedunlearn.errors import RunFolderError, SettingsError
from fedunlearn.files import atomic_write_json, make_folder, read_json, remove_leftovers
from fedunlearn.server.folder_lock import FolderLock

FORMAT = 1
"""The version of the folder's layout that this package writes and reads."""

_RUN_FILE = "run.json"


class RunFolder:
    """A run on disk.

    `run.json` (format, settings, time of creation), `ledger.sqlite`, `models/`, `clients/<id>/` (what in a
    deployment lies on the client's machine), `audit/`, `figures/`, `report.html`.
    """

    def __init__(self, path: Path, settings: FederationSettings, created: str) -> None:
        """Wrap a folder that is known to hold a run; use `RunFolder.create` or `RunFolder.open`."""
        self.path = path
        self.settings = settings
        self.created = created
        """UTC, in ISO 8601."""
        self._lock = FolderLock(path / "run.lock")

    @staticmethod
    def of(path: Path | str, settings: FederationSettings) -> RunFolder:
        """Go on with the run in `path`, or make one; rounds, engine and timeout may be other than they were.

        Raises:
            RunFolderError: `path` holds a run that differs in anything else, or cannot be written.
        """
        if not RunFolder.exists(path):
            return RunFolder.create(path, settings)
        found = RunFolder.open(path)
        there, asked = (one.model_dump(exclude={"rounds", "engine", "timeout"}) for one in (found.settings, settings))
        if there != asked:
            names = [name for name in there if there[name] != asked[name]]
            differences = ", ".join(f"{name}: {there[name]!r} there, {asked[name]!r} asked" for name in names)
            raise RunFolderError(f"{path} holds a run with other settings ({differences}); choose another folder.")
        return RunFolder(found.path, settings, found.created)

    @staticmethod
    def create(path: Path | str, settings: FederationSettings) -> RunFolder:
        """Make a new run in `path`, which need not be there yet.

        Raises:
            RunFolderError: `path` already holds a run or cannot be written.
        """
        folder = make_folder(Path(path).absolute())
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        run = RunFolder(folder, settings, created)
        with run.locked("making the run", wait=0):
            if (folder / _RUN_FILE).exists():
                raise RunFolderError(f"{folder} already holds a run: open it, or choose another folder for a new one.")
            for part in (run.models, run.clients, run.audit, run.figures):
                make_folder(part)
            # Last: a folder with run.json is complete, and after a crash before it, creating starts again.
            atomic_write_json(
                folder / _RUN_FILE,
                {"format": FORMAT, "settings": settings.model_dump(mode="json"), "created": created},
            )
        return run

    @staticmethod
    def open(path: Path | str) -> RunFolder:
        """Open the run in `path`.

        Raises:
            RunFolderError: no run is there, it is damaged, or a newer version of the package made it.
        """
        folder = Path(path).absolute()
        run_file = folder / _RUN_FILE
        if not run_file.is_file():
            raise RunFolderError(
                f"{folder} holds no run (there is no {_RUN_FILE}): make one with "
                f"`fedunlearn simulate --out {path}`, or name the folder of an existing run."
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
        try:
            settings = make_settings(FederationSettings, content["settings"])
            created = str(content["created"])
        except (SettingsError, KeyError, TypeError) as error:
            raise RunFolderError(f"{run_file} is damaged ({error}): put back a copy of it.") from error
        return RunFolder(folder, settings, created)

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
        """The SQLAlchemy URL of the run's own ledger."""
        return f"sqlite:///{self.ledger}"

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.path / "ledger.sqlite"

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
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.path / "report.html"
