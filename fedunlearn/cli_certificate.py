"""`fedunlearn certificate`: issue, verify and read certificates, and change the key that signs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedunlearn.cli_arguments import Json, LastServed, Run, heads_option
from fedunlearn.cli_output import command, command_output, facts, print_error
from fedunlearn.cli_status import FAILED

app = typer.Typer(
    help="Signed verdicts with their evidence: issue, verify, show.", no_args_is_help=True, add_completion=False
)

Heads = Annotated[
    list[Path] | None,
    heads_option("heads.json that a client itself handed over; may be repeated."),
]


@app.command()
def issue(
    run: Run,
    request: LastServed = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the bundle.", show_default="in RUN/certificates")
    ] = None,
    heads: Heads = None,
    as_json: Json = False,
) -> None:
    """Sign what the last audit of a request in RUN found, and put it into a folder with all its evidence."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        issued = Federation.open(run).certify(request, out, heads or ())
        output.answer(issued, facts(issued), f"Next: {command('certificate', 'verify', issued.bundle)}")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder with a certificate.", show_default=False)],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="The run's public key as you know it, or a file with it.", show_default="none"
        ),
    ] = None,
    heads: Heads = None,
    as_json: Json = False,
) -> None:
    """Check BUNDLE offline: signature, ledger, digests, form, and the verdict out of the evidence.

    Everything that is wrong is named, and the exit status is 1.
    """
    with command_output(as_json) as output:
        from fedunlearn.server.certificate_check import check_bundle, read_key

        found = check_bundle(bundle, None if key is None else read_key(key), heads or ())
        checked = {
            "requests": found.requests,
            "verdict": found.verdict,
            "why": found.why,
            "public_key": found.public_key,
            "first_key": found.first_key,
            "entries": found.entries,
            "heads": found.heads,
        }
        document: dict[str, Any] = {"holds": found.holds, **checked, "problems": found.problems, "notes": found.notes}
        lines = [f"{one.kind}: {one.sentence}" for one in found.problems]
        lines += [f"Note: {note}" for note in found.notes]
        word = "The certificate holds." if found.holds else "The certificate does not hold."
        output.answer(document, *lines, f"{word} It says:", facts(checked))
    if not found.holds:
        print_error(found.problems[0].sentence, as_json=False)
        raise typer.Exit(FAILED)


@app.command()
def show(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="certificate.json, or the folder it is in.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Say in plain words what a certificate says; whether it holds, `verify` tells."""
    with command_output(as_json) as output:
        from fedunlearn.ledger_views import read_certificate
        from fedunlearn.reports.certificate_words import certificate_words

        whole = read_certificate(file)
        output.answer(whole, *certificate_words(whole["certificate"]))


@app.command(name="rotate-key")
def rotate_key(
    run: Run,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File (mode 600) with a password for the new key.", show_default="none"),
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for a password for the new key.")] = False,
    as_json: Json = False,
) -> None:
    """Replace the key of RUN by a new one, which the old one signs; clients and bundles follow it."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation
        from fedunlearn.server.run_key import new_password

        found = Federation.open(run).rotate_key(new_password(password_file, password))
        output.answer({"public_key": found}, f"The run's key is {found} from now on.")
