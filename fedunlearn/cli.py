"""The command line: thin; each command calls one public function and prints its answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedunlearn import __version__, cli_audit, cli_certificate, cli_erase, cli_ledger, cli_simulate
from fedunlearn.catalogue import briefly, catalogue
from fedunlearn.cli_arguments import ByMethod, Json, LastServed, Run, option, parse_numbers, parse_options, parse_ratio
from fedunlearn.cli_output import command, command_output, estimates, facts, table
from fedunlearn.cli_status import end_process, exit_status
from fedunlearn.config import UnlearnSettings

if TYPE_CHECKING:
    from fedunlearn.server.choosing import Choice

_UNLEARN = UnlearnSettings()

app = typer.Typer(
    help="Federated learning that can forget: simulate, ask for deletion, unlearn, compare with retraining.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Text = str | None
Kind = StrEnum("Kind", ["TASKS", "METHODS", "METRICS"])


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fedunlearn {__version__}")
        raise typer.Exit


Workers = Annotated[Text, option("Processes that run the clients, 0: this one.", default="as simulated")]


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(cli_simulate.simulate)


@app.command()
def request(
    run: Run,
    client: Annotated[int | None, option("The client that asks; without it, every holder of the classes.")] = None,
    classes: Annotated[Text, option("Only these classes: 3,4.", "NUMBERS", default="all")] = None,
    samples: Annotated[
        Text,
        option("Only these samples, as indices into the client's own data: 1,5,9.", "NUMBERS", default="all"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask for deletion in RUN: a client, its classes, its samples, or a class wherever it is held."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        filed = Federation.open(run).request_deletion(
            client=client,
            classes=parse_numbers("classes", classes),
            samples=parse_numbers("samples", samples),
        )
        done = filed.state == "done"
        following = command("compare" if done else "unlearn", run, "--request", filed.id)
        output.answer(filed, facts(filed), f"{'Served already; see' if done else 'Next'}: {following}")


@app.command()
def requests(run: Run, as_json: Json = False) -> None:
    """List the deletion requests of RUN, with their states."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        known = Federation.open(run).requests()
        first = f"No deletion request yet; make one: {command('request', run, '--client', 0)}"
        shown = table(known) if known else first
        output.answer({"requests": known}, shown)


@app.command()
def unlearn(
    run: Run,
    request: Annotated[Text, option("The deletion request.", "ID", default="every open one")] = None,
    method: Annotated[
        str, option("How it is forgotten: a name of list methods, or auto: the cheapest.")
    ] = _UNLEARN.method,
    ratio: Annotated[
        str, option("Share of the channels: auto, 0 to 1, or a share a layer: conv1=0.1,hidden=0.3.")
    ] = "auto",
    rounds: Annotated[
        int | None,
        option(f"Recovery rounds: {_UNLEARN.rounds}, of retrain the federation's own, where none are named."),
    ] = None,
    local_epochs: Annotated[
        int | None,
        option("Passes of a client over its data in a recovery round: half of those in training, of retrain all."),
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="Serve all pending requests as one.")] = False,
    option: Annotated[
        list[str] | None,
        option("An option of the method, such as attribution=ablation; may be repeated.", "NAME=VALUE"),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Serve a deletion request of RUN; all pending ones, one after the other, when none is named."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        choices: list[Choice] = []

        def show(choice: Choice) -> None:
            choices.append(choice)
            output.say(table(estimates(choice)), choice.why)

        served = Federation.open(run, workers).unlearn(
            request,
            method=method,
            ratio=parse_ratio(ratio),
            rounds=rounds,
            local_epochs=local_epochs,
            together=together,
            on_progress=output.on_progress,
            on_choice=show,
            **parse_options(option or []),
        )
        chosen = {"chosen": [choice.document() for choice in choices]} if choices else {}
        output.answer({"unlearned": served, **chosen}, facts(served), f"Next: {command('compare', run)}")


@app.command()
def compare(
    run: Run,
    request: LastServed = None,
    retrain: Annotated[
        bool, typer.Option(help="Retrain in full without the forget set, if that is not done yet.")
    ] = True,
    rounds_after: Annotated[int, option("Ordinary rounds to train after that, and compare again.", "K")] = 0,
    method: ByMethod = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Put the original, unlearned and retrained models of RUN side by side, and write the report."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        federation = Federation.open(run, workers)
        comparison = federation.compare(
            request, retrain=retrain, rounds_after=rounds_after, on_progress=output.on_progress, method=method
        )
        page = federation.report(request, on_progress=output.on_progress, method=method)
        output.answer(comparison.document, comparison.table(), f"The report is {page}")


app.command()(cli_audit.audit)
app.add_typer(cli_ledger.app, name="ledger")
app.add_typer(cli_certificate.app, name="certificate")
app.command()(cli_erase.erase)


@app.command()
def benchmark(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.toml", help="The experiment.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for runs and tables.", show_default=False)],
    processes: Annotated[int | None, option("Cells that run at a time.", default="one a core")] = None,
    seeds: Annotated[Text, option("Only these seeds, such as 1,2.", "SEEDS", default="all of the experiment's")] = None,
    methods: Annotated[Text, option("Only these methods.", "NAMES", default="all of the experiment's")] = None,
    as_json: Json = False,
) -> None:
    """Run EXPERIMENT.toml over its seeds, and tabulate unlearning against retraining."""
    with command_output(as_json) as output:
        from fedunlearn.benchmark import benchmark as run_benchmark

        names = None if methods is None else [name.strip() for name in methods.split(",")]
        document = run_benchmark(experiment, out, output.on_progress, processes, parse_numbers("seeds", seeds), names)
        output.answer(document, f"The tables are in {out}, and {out / 'index.html'} shows them")


@app.command()
def report(
    run: Run,
    request: LastServed = None,
    method: ByMethod = None,
    as_json: Json = False,
) -> None:
    """Write the report of the last comparison in RUN, one self-contained HTML page."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        page = Federation.open(run).report(request, on_progress=output.on_progress, method=method)
        output.answer({"report": page}, f"The report is {page}")


@app.command(name="list")
def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)], as_json: Json = False
) -> None:
    """List the tasks, methods or metrics that are known by name."""
    with command_output(as_json) as output:
        known = catalogue(kind.value)
        output.answer({kind.value: known}, table(briefly(kind.value, known)))


@app.command()
def demo(
    out: Annotated[Path, option("Folder of the demonstration.", "RUN")] = Path("demo-run"),
    as_json: Json = False,
) -> None:
    """Train, plant a back-door, ask for deletion, unlearn and compare: the whole path, in minutes."""
    with command_output(as_json) as output:
        from fedunlearn.demo import demo as run_demo

        comparison = run_demo(out, on_progress=output.on_progress)
        output.answer(comparison.document, comparison.table(), f"The report is {out / 'report.html'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The exit status: 0; 1 it did not work; 2 wrong arguments; 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # So that --task module:object finds a module of this folder; last, so that it hides nothing.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    status = exit_status(lambda: app(words, prog_name="fedunlearn", standalone_mode=False), words)
    return end_process(status) if arguments is None else status
