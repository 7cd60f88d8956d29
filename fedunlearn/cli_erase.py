"""`fedunlearn erase`: remove what still remembers forgotten data."""

from __future__ import annotations

from typing import Annotated

import typer

from fedunlearn.cli_arguments import Json, Run
from fedunlearn.cli_output import command, command_output, table


def erase(
    run: Run,
    request: Annotated[str, typer.Option(metavar="ID", help="The deletion request, which must be done.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """List, and with --yes remove, what still descends from forgotten data: older models, reports, clients' copies."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        found = Federation.open(run).erase(request, dry_run=not yes, on_progress=output.on_progress)
        things = [*found.models, *found.files]
        clients = [{"client": client, **counts} for client, counts in found.clients.items()]
        verb = "would go" if found.dry_run else "gone"
        lines = [f"Served, and stays: {found.served[:12]}"]
        lines.append(f"On the server, {verb}: {len(things)} files, {found.bytes:,} bytes")
        lines += [f"Not reached: {why}" for why in found.absent]
        lines += [f"Note: {note}" for note in found.notes]
        if found.dry_run and not found.finished:
            lines.append(f"To do it: {command('erase', run, '--request', request, '--yes')}")
        elif not found.finished:
            lines.append("Some clients were away: give the command again when they are back.")
        parts = [table(things)] if things else []
        parts += [table(clients)] if clients else []
        output.answer(found, *parts, *lines)
