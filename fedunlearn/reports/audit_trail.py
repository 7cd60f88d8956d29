"""What a run's audits and certificates say, as a report takes them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

AuditDocument = Mapping[str, Any]


@dataclass(frozen=True)
class Certified:
    """A certificate that was issued.

    Attributes:
        certificate: the signed part of its file; None where that is not in the run folder any more, or was changed.
        bundle: name of its folder.
        unlearned: digest of the model that it is of.
    """

    certificate: Mapping[str, Any] | None
    bundle: str
    unlearned: str


@dataclass(frozen=True)
class Standing:
    """How one request stands.

    Attributes:
        own: the audit of the request itself.
        judged: the latest judgement of it: `own`, or what a later audit says of it.
        by: the audit that `judged` comes from.
    """

    own: AuditDocument
    judged: Mapping[str, Any]
    by: AuditDocument

    @property
    def is_again(self) -> bool:
        """Whether a later audit judged it again."""
        return self.by is not self.own


@dataclass(frozen=True)
class AuditTrail:
    """Audits and certificates of a run.

    Attributes:
        audits: one document a request (or requests that were served together), in the order of serving.
        certificates: requests, joined by "+" -> the last certificate.
        served: digest of the model that is served now; None where that is not known.
    """

    audits: tuple[AuditDocument, ...] = ()
    certificates: Mapping[str, Certified] = field(default_factory=dict)
    served: str | None = None

    def audit_of(self, requests: str) -> AuditDocument | None:
        """The audit of requests that are joined by "+", in any order."""
        return next((one for one in self.audits if same_requests(str(one["request"]), requests)), None)

    def certificate_of(self, audit: AuditDocument) -> Certified | None:
        """The certificate of the model that an audit judged."""
        for requests, certified in self.certificates.items():
            if same_requests(requests, str(audit["request"])) and certified.unlearned == audit["unlearned"]:
                return certified
        return None

    def is_served(self, audit: AuditDocument) -> bool:
        """Whether the model that an audit judged is in use, as far as is known."""
        return self.served in (None, audit["unlearned"])

    def standings(self) -> list[Standing]:
        """Each audited request with its latest judgement, in the order of serving."""
        return [Standing(own, *self._latest(own)) for own in self.audits]

    def _latest(self, own: AuditDocument) -> tuple[Mapping[str, Any], AuditDocument]:
        found: list[tuple[Mapping[str, Any], AuditDocument]] = [(own, own)]
        for audit in self.audits:
            again = [e for e in audit.get("earlier") or () if same_requests(str(e["request"]), str(own["request"]))]
            found += [(entry, audit) for entry in again]
        return max(found, key=lambda pair: str(pair[1].get("created", "")))


def same_requests(one: str, other: str) -> bool:
    """Whether two texts name the same requests, joined by "+" in any order."""
    return sorted(one.split("+")) == sorted(other.split("+"))


def in_order(audits: Iterable[AuditDocument], served: Iterable[str]) -> tuple[AuditDocument, ...]:
    """The audits in the order in which their requests were `served`; others after them, oldest first."""
    place = {"+".join(sorted(requests.split("+"))): number for number, requests in enumerate(served)}

    def key(audit: AuditDocument) -> tuple[int, str]:
        return place.get("+".join(sorted(str(audit["request"]).split("+"))), len(place)), str(audit.get("created", ""))

    return tuple(sorted(audits, key=key))
