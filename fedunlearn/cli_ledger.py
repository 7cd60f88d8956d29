"""`fedunlearn ledger`: what the ledger of a run says, whether it holds, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedunlearn.cli_arguments import Json, Run, heads_option
from fedunlearn.cli_output import command_output, facts, print_error, table
from fedunlearn.cli_status import FAILED

app = typer.Typer(
    help="The record of a run: show it, verify it, export it.", no_args_is_help=True, add_completion=False
)

Heads = Annotated[
    list[Path] | None,
    heads_option("heads.json of a client whose folder is elsewhere; may be repeated."),
]
Request = Annotated[str | None, typer.Option(metavar="ID", help="The deletion request.", show_default="all")]


@app.command()
def show(
    run: Run,
    kind: Annotated[str | None, typer.Option(help="Only entries of this kind: round, event …")] = None,
    last: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the last N entries.", show_default="all")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the entries of RUN's ledger, in order."""
    with command_output(as_json) as output:
        from fedunlearn.ledger_views import shown_entries

        entries = shown_entries(run, kind, last)
        shown = table([one.row for one in entries]) if entries else "The ledger has no such entry."
        output.answer({"entries": [one.document for one in entries]}, shown)


@app.command()
def verify(
    run: Run,
    heads: Heads = None,
    models: Annotated[bool, typer.Option(help="Read every model file and compare its digest.")] = True,
    as_json: Json = False,
) -> None:
    """Check RUN's ledger, its tables, the heads that clients keep, models, audits and what was erased.

    Everything that is wrong is named, and the exit status is 1.
    """
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        found = Federation.open(run).verify_ledger(heads or (), with_models=models)
        checked = {"entries": found.entries, "heads": found.heads, "models": found.models}
        document: dict[str, Any] = {"holds": found.holds, **checked, "problems": found.problems, "notes": found.notes}
        lines = [f"{one.kind}: {one.sentence}" for one in found.problems]
        lines += [f"Note: {note}" for note in found.notes]
        word = "The ledger holds." if found.holds else "The ledger does not hold."
        output.answer(document, *lines, f"{word} Checked:", facts(checked))
    if not found.holds:
        print_error(found.problems[0].sentence, as_json=False)
        raise typer.Exit(FAILED)


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the copy; it must be empty or new.")],
    heads: Heads = None,
    as_json: Json = False,
) -> None:
    """Write RUN's ledger as JSON lines, with the clients' heads and the public keys, into a folder."""
    with command_output(as_json) as output:
        from fedunlearn.ledger_views import export_ledger

        files = export_ledger(run, out, heads or ())
        output.answer({"files": files}, *(str(path) for path in files))


@app.command()
def lineage(run: Run, request: Request = None, as_json: Json = False) -> None:
    """Show which models of RUN descend from which clients' rounds, and for a request the earliest clean one."""
    with command_output(as_json) as output:
        from fedunlearn.ledger_views import lineage_view

        found = lineage_view(run, request)
        lines = []
        for id, clean in found["earliest_clean"].items():
            lines.append(f"Earliest model without the data of {id}: {clean[:12] if clean else 'none'}")
        shown = table(found["models"]) if found["models"] else "Nothing was trained yet."
        output.answer(found, shown, *lines)
