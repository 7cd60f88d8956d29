"""The form of a certificate, as JSON Schema (2020-12); `docs/certificate.schema.json` is the same."""

from __future__ import annotations

from typing import Any, Final

FORMAT: Final = "fedunlearn-certificate-1"


def _object(properties: dict[str, Any], description: str, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


def _optional(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


_DIGEST: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256, hexadecimal."}
_KEY: Final = {"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$", "description": "Ed25519 public key, base64."}
_TIME: Final = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T", "description": "UTC, ISO 8601."}
_CLIENT: Final = {"type": "integer", "minimum": 0, "description": "A client's number in the federation."}
_COUNT: Final = {"type": "integer", "minimum": 0}
_NUMBER: Final = {"type": "number"}
_VERDICT: Final = {"enum": ["pass", "fail", "inconclusive"]}

_REQUEST: Final = _object(
    {
        "request": _text("Its id."),
        "scope": {"enum": ["client", "classes", "samples", "class-everywhere"]},
        "clients": _list(_CLIENT, "Who asked."),
        "classes": {"type": ["array", "null"], "items": _COUNT, "description": "Class indices, where some are named."},
        "samples": {**_COUNT, "minimum": 1, "description": "How many samples must go; never which."},
        "commitments": _list(_DIGEST, "One a client: binds it to its samples without showing them."),
        "signatures": {"enum": ["hold", "fail", "not recorded"], "description": "Whether the clients signed this."},
        "recorded": _TIME,
        "done": _TIME,
    },
    "One deletion request.",
)

_METRIC: Final = _object(
    {
        "metric": _text("Its name."),
        "kind": {"enum": ["removal", "utility"]},
        "samples": {"type": ["integer", "null"], "description": "Samples that a rate is a share of."},
        "original": {"type": ["number", "null"], "description": "Of the model that the request found."},
        "unlearned": {"type": ["number", "null"], "description": "Of the model that was judged."},
        "interval": {
            "type": ["array", "null"],
            "items": _NUMBER,
            "minItems": 2,
            "maxItems": 2,
            "description": "Where models that never saw the data lie.",
        },
        "limit": {"type": ["number", "null"], "description": "Half the interval, on the scale of comparison: K s."},
        "margin": {"type": ["number", "null"], "description": "The threshold: how far from retrained is near enough."},
        "bound": {
            "type": ["number", "null"],
            "description": "How far the unlearned model may be; pass: within margin.",
        },
        "informative": {"type": ["boolean", "null"], "description": "Whether the original shows the data at all."},
        "outcome": {"enum": ["pass", "fail", "open", "uninformative", "inconclusive"]},
    },
    "One primary metric: its values, the interval of the retrained models, the threshold, what follows.",
)

_CERTIFICATE: Final = _object(
    {
        "format": {"const": FORMAT},
        "id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Of this certificate."},
        "issued": _TIME,
        "issuer": _object(
            {
                "program": _text("What issued it, with its version."),
                "run": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "The federation's run."},
                "public_key": _KEY,
            },
            "Who signs.",
        ),
        "asked": {**_list(_REQUEST, "What was asked: the requests that were served together."), "minItems": 1},
        "done": _object(
            {
                "method": _text("How it was unlearned."),
                "settings": {"type": "object", "description": "The method's settings."},
                "branch": _text("Its name in the ledger."),
                "original": _DIGEST,
                "unlearned": _DIGEST,
                "models": _list(_DIGEST, "Every model on the way, in order."),
                "masks": _list(_DIGEST, "Digests of the channel masks; none: every parameter moved."),
                "seeds": _list(_text("A whole number as text."), "What random choices were derived from."),
                "rounds": _COUNT,
                "participants": _list(_CLIENT, "Clients that took part."),
                "dropped": _list(
                    _object({"client": _CLIENT, "why": _text("In a sentence.")}, "Who fell out, and why."), "If any."
                ),
                "instead_of": {"type": ["string", "null"], "description": "The method that its target was gone for."},
                "begun": _optional(_TIME),
                "finished": _optional(_TIME),
            },
            "What was done.",
        ),
        "served": _object(
            {
                "since": _optional(_TIME),
                "model": {**_DIGEST, "description": "Digest of the model that was served when this was issued."},
                "is_unlearned": {"type": "boolean", "description": "Whether that is the unlearned model itself."},
            },
            "Whether the unlearned model is the one in use.",
        ),
        "audit": _object(
            {
                "sha256": {**_DIGEST, "description": "Of audit.json in the evidence."},
                "entry": {**_COUNT, "description": "The ledger's entry that tells of the audit."},
                "tier": {"enum": ["quick", "standard", "full"]},
                "created": _TIME,
                "band": _object(
                    {
                        "key": _DIGEST,
                        "size": _COUNT,
                        "seeds": _list(_text("A whole number as text."), "One a retrained model."),
                        "models": _list(_DIGEST, "The retrained models."),
                    },
                    "The models that were retrained without the data.",
                ),
                "restored": {"type": ["string", "null"], "description": "What became of a model that failed."},
            },
            "How it was measured.",
        ),
        "metrics": _list(_METRIC, "What was measured."),
        "verdict": _VERDICT,
        "why": _text("The verdict in a sentence."),
        "rests_on": {"enum": ["band", "canaries"], "description": "Retrained models, or planted canaries alone."},
        "earlier": _list(
            _object({"request": _text("Its id."), "verdict": _VERDICT, "why": _text("In a sentence.")}, "One of them."),
            "Earlier requests, judged again on this model.",
        ),
        "erased": {
            "type": "object",
            "additionalProperties": {"type": "boolean"},
            "description": "Request: whether what else remembers its data was erased.",
        },
        "not_covered": {**_list(_text("In a sentence."), "What this certificate does not cover."), "minItems": 1},
        "ledger": _object(
            {"entries": {**_COUNT, "minimum": 1}, "head": _DIGEST}, "The ledger when this was issued: its last entry."
        ),
        "evidence": {
            "type": "object",
            "additionalProperties": _DIGEST,
            "minProperties": 1,
            "description": "File of the bundle: its SHA-256.",
        },
    },
    "What is signed, in canonical form (RFC 8785) after a line with `fedunlearn-certificate-1`.",
)

SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "fedunlearn certificate",
    **_object(
        {
            "certificate": _CERTIFICATE,
            "signature": _object(
                {
                    "algorithm": {"const": "Ed25519"},
                    "public_key": _KEY,
                    "value": {"type": "string", "pattern": "^[A-Za-z0-9+/]{86}==$", "description": "Base64."},
                },
                "By the run's key.",
            ),
        },
        "A signed verdict on the unlearning of deletion requests, with what it rests on.",
    ),
}
"""The whole file `certificate.json`."""
