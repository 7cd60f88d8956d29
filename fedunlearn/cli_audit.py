"""`fedunlearn audit`: the verdict on a served request, and the self-test of the verdict itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedunlearn.cli_arguments import ByMethod, Json, LastServed
from fedunlearn.cli_output import command_output
from fedunlearn.errors import SettingsError

SELF_TEST = Path("self-test")


def audit(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)] = None,
    request: LastServed = None,
    tier: Annotated[
        str | None,
        typer.Option(
            "--audit",
            metavar="TIER",
            help="quick (no retraining), standard (8 retrained models) or full (20, and 18 unlearned shadows).",
            show_default="standard",
        ),
    ] = None,
    band: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Retrained models to compare with; fewer than 8 never pass.", show_default="the tier's"
        ),
    ] = None,
    method: ByMethod = None,
    restore: Annotated[
        bool, typer.Option(help="Serve the model from before again when the unlearned one fails; the data stays out.")
    ] = True,
    processes: Annotated[
        int | None, typer.Option(help="Models that are trained at a time.", show_default="one a core")
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Does the verdict catch what is none? Trains its own federations.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --self-test: its folder.", show_default=str(SELF_TEST))
    ] = None,
    models: Annotated[
        int | None, typer.Option(help="With --self-test: retrained models a request.", show_default="30")
    ] = None,
    repetitions: Annotated[
        int | None, typer.Option(help="With --self-test: bands that are drawn.", show_default="20")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge what unlearning has made of RUN against models that were retrained without the forgotten data."""
    with command_output(as_json) as output:
        if self_test:
            if any(given is not None for given in (run, request, tier, method)):
                raise SettingsError(
                    "--self-test trains federations of its own; leave RUN, --request, --audit and --method out."
                )
            from fedunlearn.self_test.run import run_self_test

            folder = out or SELF_TEST
            result = run_self_test(
                folder,
                models=models,
                repetitions=repetitions,
                band=band,
                processes=processes,
                on_progress=output.on_progress,
            )
            output.answer(result.document, result.table(), f"The tables are in {folder}")
            return
        if run is None:
            raise SettingsError("name the folder of the run to audit, or give --self-test.")
        if out is not None or models is not None or repetitions is not None:
            raise SettingsError("--out, --models and --repetitions belong to --self-test.")
        from fedunlearn.federation import Federation

        found = Federation.open(run).audit(
            request, tier, band, restore=restore, processes=processes, on_progress=output.on_progress, method=method
        )
        output.answer(found.document, found.table())
