"""The half of a run that answers for it: audit, certificate, ledger, erasing, keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flwr.serverapp import Grid

from fedunlearn.errors import RequestError
from fedunlearn.open_run import Asked, OpenRun
from fedunlearn.progress import OnProgress
from fedunlearn.server import certificate, erasing
from fedunlearn.server.branches import unlearned_branch
from fedunlearn.server.certificate import Issued
from fedunlearn.server.erasing import Erasure
from fedunlearn.server.life_cycle import DeletionRequest
from fedunlearn.server.session import Session
from fedunlearn.server.verification import Verification, verify_run

if TYPE_CHECKING:
    from fedunlearn.auditing import Audit

T = TypeVar("T")


class Accountable(OpenRun):
    """What a run is asked by whoever has to show that it has forgotten."""

    def audit(
        self,
        request: Asked | None = None,
        tier: str | None = None,
        band: int | None = None,
        *,
        restore: bool = True,
        processes: int | None = None,
        on_progress: OnProgress | None = None,
        method: str | None = None,
    ) -> Audit:
        """Judge a served request against a band of models retrained without what was filed.

        Earlier requests are judged again on the model as it is now. What the band lacks is retrained, in parallel, and
        kept for every later audit of any method.

        Args:
            request: None for the one that was served last.
            tier: "quick" (no retraining), "standard" (8 models) or "full" (20, and in a simulation two fewer other
                originals that are unlearned in the same way). None: standard, or full for a band of that size.
            band: size of the band; fewer than 8 never pass. None: the tier's.
            restore: serve the model from before again when the audited one fails; the data stays out all the same.
            processes: models that are trained at a time; None: one a core.
            method: whose unlearned model is judged, where several methods have served the request; None: the last's.

        Raises:
            SettingsError: no such tier or size. RequestError: the request has not been served, or not by `method`.
        """
        from fedunlearn import auditing

        named, size = auditing.settled(tier, band)
        ids = self._meant(request)
        unlearned_branch(self._session(), ids, method)

        def run(work: Callable[[Grid, Session], T]) -> T:
            return self._run(work, "audit", on_progress)

        with self._folder.locked("audit"):
            return auditing.audit(run, self._session(on_progress), ids, named, size, restore, processes, method)

    def certify(
        self,
        request: Asked | None = None,
        out: Path | str | None = None,
        head_files: Sequence[Path] = (),
    ) -> Issued:
        """Sign what the last audit of a request found, and write it with its evidence into a folder.

        Args:
            request: None for the one that was served last.
            out: folder of the bundle; None: one in the run folder's `certificates/`.
            head_files: `heads.json` of clients whose folders are elsewhere.

        Raises:
            RequestError: not done, or not audited. RunFolderError: the ledger or the key does not hold.
        """
        ids = self._meant(request)
        with self._folder.locked("certificate"):
            return certificate.issue(self._session(), ids, None if out is None else Path(out), head_files)

    def verify_ledger(self, head_files: Sequence[Path] = (), with_models: bool = True) -> Verification:
        """Check ledger, clients' heads, models and audits of the run; nothing is changed.

        Args:
            head_files: `heads.json` of clients whose folders are elsewhere.
            with_models: also read every model and compare its digest.
        """
        return verify_run(self._folder, head_files, with_models)

    def erase(
        self, request: DeletionRequest | str, dry_run: bool = True, on_progress: OnProgress | None = None
    ) -> Erasure:
        """Remove what still descends from a request's data: older models, what clients keep, reports of them.

        Args:
            dry_run: only say what would go.

        Raises:
            RequestError: the request is not done, or the served model itself descends from its data.
        """
        ids = self._named(request)
        if len(ids) != 1:
            raise RequestError(f"erase one request at a time: {', '.join(ids)}.")
        id = ids[0]
        return self._run(lambda grid, session: erasing.erase(grid, session, id, dry_run), "erase", on_progress)

    def rotate_key(self, password: bytes | None = None) -> str:
        """Replace the run's key by a new one, which the old one signs; return the new public key.

        Args:
            password: protects the new key's file; None: it has none.

        Raises:
            RunFolderError: the old key cannot be used.
        """
        with self._folder.locked("rotate-key"):
            return self._session().run_key().rotate(self._folder.server_key, password).public_key
