"""Is the ledger what was recorded? The chain by itself, the heads that clients keep, and the tables that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from fedunlearn.errors import ClientError
from fedunlearn.ledger_head import KeyRotation, SignedHead
from fedunlearn.server import ledger_chain as chain
from fedunlearn.server.ledger_chain import BEFORE_FIRST, Entry
from fedunlearn.server.ledger_replay import Key, Replay, replay

KINDS: Final[Mapping[str, str]] = {
    "edited": "an entry is not what it was when it was written",
    "deleted": "an entry is missing",
    "reordered": "an entry stands in another place",
    "truncated": "the last entries are missing",
    "rewritten": "entries were replaced, and their hashes with them",
    "forged-head": "a head is not signed by the run's key",
    "key": "a key of the run is not what it must be",
    "projection": "a table does not say what the entries say",
    "model": "a model file is not what the ledger says, or is missing",
    "erasure": "what was erased is there",
    "audit": "an audit is not the one that was recorded",
    "heads": "a client's heads cannot be read",
    "missing-file": "a file of an evidence bundle is missing",
    "changed-file": "a file of an evidence bundle is another one",
    "extra-file": "a file does not belong to an evidence bundle",
    "schema": "a certificate is not of the form that certificates have",
    "signature": "a certificate's signature fails",
    "certificate": "a certificate says something else than its evidence",
    "request": "a deletion request is not signed by who asked",
    "verdict": "a verdict does not follow from what was measured",
}
"""Everything that can be found to be wrong."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: its kind (of `KINDS`), and a sentence that names it."""

    kind: str
    sentence: str


def verify_chain(entries: Sequence[Entry]) -> list[Problem]:
    """Whether each entry is intact and follows the one before it; each one that is not is named."""
    if not entries:
        return [Problem("deleted", "the ledger has no entry at all: every one was deleted.")]
    problems = []
    for before, after in pairwise(entries):
        if after.number <= before.number:
            problems.append(Problem("reordered", f"entry {after.number} stands after entry {before.number}."))
    entries = sorted(entries, key=lambda entry: entry.number)
    broken = [entry for entry in entries if entry.computed_hash() != entry.hash]
    moved = set()
    for entry in broken:
        # Only the places of others that are not intact either can be the one where it stood.
        origin = next(
            (o.number for o in broken if o is not entry and entry.computed_hash(o.number) == entry.hash), None
        )
        if origin is not None:
            moved.add(entry.number)
            sentence = f"entry {entry.number} was written as entry {origin}: the order was changed."
            problems.append(Problem("reordered", sentence))
        else:
            what = f"({entry.kind}, {entry.time})"
            problems.append(Problem("edited", f"entry {entry.number} {what} was edited: its hash is of other content."))
    expected, previous = 1, BEFORE_FIRST
    for entry in entries:
        if entry.number > expected:
            last = entry.number - 1
            names = f"entry {expected} is" if last == expected else f"entries {expected} to {last} are"
            problems.append(Problem("deleted", f"{names} missing: deleted from the ledger."))
        elif entry.previous != previous and not moved & {entry.number, entry.number - 1}:
            problems.append(_does_not_follow(entry))
        expected, previous = entry.number + 1, entry.hash
    if not broken:
        if entries[0].number == 1 and entries[0].kind != chain.BEGUN:
            problems.append(Problem("rewritten", "the first entry does not begin a ledger."))
        problems += _wrong_adoption(entries)
    return problems


def _does_not_follow(entry: Entry) -> Problem:
    if entry.number == 1:
        return Problem("rewritten", "the first entry follows another one: what was before it is gone.")
    return Problem(
        "rewritten",
        f"entry {entry.number} does not follow entry {entry.number - 1}: one of them was replaced, with a hash to fit.",
    )


def _wrong_adoption(entries: Sequence[Entry]) -> list[Problem]:
    """Whether the rows that were taken over from an earlier format have the digest that the first entry states."""
    try:
        first = entries[0].content()
        if first["before"] is None:
            return []
        rows: dict[str, list[Any]] = {}
        for entry in entries:
            if entry.kind == chain.ADOPTED:
                rows.setdefault(entry.content()["table"], []).append(entry.content()["row"])
        if chain.rows_digest(rows) == first["before"]:
            return []
    except (KeyError, ValueError):
        return []  # unreadable entries are told by their hashes
    sentence = (
        "the rows that were taken over from the earlier format are not those whose digest the first entry states."
    )
    return [Problem("rewritten", sentence)]


@dataclass(frozen=True)
class Keys:
    """The run's public keys, each with the number of the entry that names it."""

    in_force: tuple[tuple[int, str], ...]
    problems: tuple[Problem, ...] = ()

    def at(self, number: int) -> str | None:
        """Return the key of the time when entry `number` was the last one."""
        return next((key for since, key in reversed(self.in_force) if since <= number), None)


def server_keys(entries: Sequence[Entry]) -> Keys:
    """The run's keys out of the chain; a change that the old key did not sign is a problem."""
    run = chain.run_id(entries)
    found: list[tuple[int, str]] = []
    problems = []
    for entry in entries:
        try:
            if entry.kind == chain.SERVER_KEY and not found:
                found.append((entry.number, str(entry.content()["public_key"])))
            elif entry.kind == chain.KEY_ROTATION:
                rotation = KeyRotation.of(entry.content())
                if not found or rotation.old != found[-1][1] or rotation.run != run or not rotation.holds():
                    sentence = f"the change of the run's key in entry {entry.number} is not signed with the old key."
                    problems.append(Problem("key", sentence))
                found.append((entry.number, rotation.new))
        except (ClientError, KeyError, ValueError):
            problems.append(Problem("key", f"the key in entry {entry.number} cannot be read."))
    return Keys(tuple(found), tuple(problems))


def verify_heads(entries: Sequence[Entry], heads: Mapping[str, Sequence[SignedHead]], keys: Keys) -> list[Problem]:
    """Whether the chain still has everything that clients were shown.

    Args:
        heads: who keeps them ("client 3") -> heads.
        keys: of the run.
    """
    problems: list[Problem] = []
    run = chain.run_id(entries)
    by_number = {entry.number: entry for entry in entries}
    last = entries[-1].number if entries else 0
    matching, beyond, other = 0, _Shown(), _Shown()
    for who, kept in heads.items():
        for head in kept:
            if not head.holds():
                problems.append(Problem("forged-head", f"head {head.number} of {who} is forged: its signature fails."))
            elif head.run != run:
                sentence = (
                    f"{who} was shown the ledger of run {head.run}, and this is that of run {run}: it was replaced."
                )
                problems.append(Problem("rewritten", sentence))
            elif head.number > last:
                beyond.add(who, head)
            elif head.number not in by_number:
                continue  # a deleted entry is told already
            elif by_number[head.number].hash != head.hash:
                other.add(who, head)
            elif head.public_key != keys.at(head.number):
                sentence = (
                    f"head {head.number} of {who} is signed with a key that the ledger does not name for that time "
                    f"({head.public_key[:12]}…): either is forged."
                )
                problems.append(Problem("forged-head", sentence))
            else:
                matching = max(matching, head.number)
    if beyond.numbers:
        sentence = (
            f"{beyond.names()} was shown entry {max(beyond.numbers)}, and the ledger ends with entry {last}: the end "
            f"was cut off."
        )
        problems.append(Problem("truncated", sentence))
    if other.numbers:
        sentence = (
            f"entry {min(other.numbers)} is not the one that {other.names()} was shown: the chain was rewritten after "
            f"entry {matching}."
            if matching < min(other.numbers)
            else f"entry {min(other.numbers)} is not the one that {other.names()} was shown: the chain was rewritten."
        )
        problems.append(Problem("rewritten", sentence))
    return list(dict.fromkeys(problems))


class _Shown:
    """Heads that the chain does not have, and who was shown them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._who: list[str] = []

    def add(self, who: str, head: SignedHead) -> None:
        self.numbers.append(head.number)
        if who not in self._who:
            self._who.append(who)

    def names(self) -> str:
        return self._who[0] if len(self._who) == 1 else f"{self._who[0]} (and {len(self._who) - 1} more)"


def verify_tables(entries: Sequence[Entry], stored: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Problem]:
    """Whether the tables say what the entries say.

    Args:
        stored: table -> its rows in order, without the numbers that the database gave them.
    """
    broken = {entry.number for entry in entries if entry.computed_hash() != entry.hash}
    expected, found = replay(entries), Replay()
    problems = [
        Problem("projection", f"entry {number} says nothing that a table could follow from.")
        for number in expected.unreadable
        if number not in broken
    ]
    for table, rows in stored.items():
        for row in rows:
            try:
                found.insert(table, row)
            except ValueError:
                problems.append(Problem("projection", f"the table {table} has a row twice."))
        problems += _compare(table, expected, found, broken)
    return problems


def _compare(table: str, expected: Replay, found: Replay, broken: set[int]) -> list[Problem]:
    problems = []
    for key, row in expected.rows[table].items():
        if broken & set(expected.touched[table, key]):
            continue  # what follows from an edited entry says nothing of the table
        name = _name(table, key)
        if key not in found.rows[table]:
            problems.append(Problem("projection", f"{name} is missing in the table, and entries tell of it."))
            continue
        stored = found.rows[table][key]
        wrong = [column for column in row if row[column] != stored[column]]
        if wrong:
            numbers = ", ".join(map(str, expected.touched[table, key][-3:]))
            problems.append(
                Problem("projection", f"{name} has another {', '.join(wrong)} in the table than in entry {numbers}.")
            )
    problems += [
        Problem("projection", f"{_name(table, key)} is in the table, and no entry tells of it.")
        for key in found.rows[table].keys() - expected.rows[table].keys()
    ]
    both = expected.rows[table].keys() & found.rows[table].keys()
    if [k for k in expected.rows[table] if k in both] != [k for k in found.rows[table] if k in both]:
        problems.append(Problem("projection", f"the rows of the table {table} are in another order than the entries."))
    return problems


def _name(table: str, key: Key) -> str:
    if table == "rounds":
        return f"round {key[1]} of branch {key[0]!r}"
    if table == "phases":
        return f"phase {key[1]!r} of branch {key[0]!r}"
    if table == "events":
        return f"the event {key[1]!r} of {key[0]}"
    return {"requests": "request", "branches": "branch", "client_keys": "the key of client"}[table] + f" {key[0]!r}"
