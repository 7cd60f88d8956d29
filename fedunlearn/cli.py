"""The command line: thin; each command calls one public function and prints its answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedunlearn import __version__, cli_audit, cli_certificate, cli_erase, cli_ledger
from fedunlearn.catalogue import briefly, catalogue
from fedunlearn.cli_arguments import parse_numbers, parse_options, parse_ratio
from fedunlearn.cli_output import command, command_output, estimates, facts, table
from fedunlearn.cli_status import end_process, exit_status
from fedunlearn.config import FederationSettings, UnlearnSettings

if TYPE_CHECKING:
    from fedunlearn.server.choosing import Choice

_DEFAULTS = FederationSettings()
_UNLEARN = UnlearnSettings()

app = typer.Typer(
    help="Federated learning that can forget: simulate, ask for deletion, unlearn, compare with retraining.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Text = str | None
Kind = StrEnum("Kind", ["TASKS", "METHODS", "METRICS"])


def _option(help: str, metavar: str | None = None, *, default: str | bool = True) -> object:
    return typer.Option(help=help, metavar=metavar, show_default=default)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fedunlearn {__version__}")
        raise typer.Exit


ByMethod = Annotated[
    Text, _option("The method whose unlearned model is meant, where several served the request.", default="the last")
]
Workers = Annotated[Text, _option("Processes that run the clients, 0: this one.", default="as simulated")]


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def simulate(
    task: Annotated[str, _option("Name, images:PATH or module:object; see: list tasks.")] = _DEFAULTS.task,
    clients: Annotated[int, _option("Clients of the federation, 2 or more.")] = _DEFAULTS.clients,
    partition: Annotated[str, _option("iid, dirichlet:A, pathological:K or by:COLUMN.")] = _DEFAULTS.partition,
    rounds: Annotated[int, _option("Rounds of training; 0 with --init: none.")] = _DEFAULTS.rounds,
    seed: Annotated[int, _option("The same seed gives the same model, bit for bit.")] = _DEFAULTS.seed,
    out: Annotated[Path, _option("Folder of the run; one with the same settings is resumed.", "RUN")] = Path("run"),
    local_epochs: Annotated[int, _option("Passes of a client over its data in a round.")] = _DEFAULTS.local_epochs,
    learning_rate: Annotated[float, _option("Learning rate of the clients.")] = _DEFAULTS.learning_rate,
    batch_size: Annotated[int, _option("Samples in a batch.")] = _DEFAULTS.batch_size,
    network: Annotated[Text, _option("Name of a network.", default="the task's")] = _DEFAULTS.network,
    init: Annotated[
        Text, _option("Model to start from: a safetensors file, or torchvision:NAME.", "PATH", default="a fresh one")
    ] = _DEFAULTS.init,
    momentum: Annotated[float, _option("Momentum of the clients' SGD, 0 to below 1.")] = _DEFAULTS.momentum,
    strategy: Annotated[str, _option("Flower strategy: fedavg, fedprox:proximal_mu=0.1, krum …")] = _DEFAULTS.strategy,
    fraction: Annotated[float, _option("Share of the clients in a round, above 0 to 1.")] = _DEFAULTS.fraction,
    backdoor: Annotated[
        Text, _option("Plant a back-door: client=0,share=0.8,target=0.", default="none")
    ] = _DEFAULTS.backdoor,
    canaries: Annotated[Text, _option("Plant canaries: client=0,count=300.", default="none")] = _DEFAULTS.canaries,
    engine: Annotated[str, _option("What executes the clients: local or ray.")] = _DEFAULTS.engine,
    timeout: Annotated[float, _option("Seconds after which a client is left out of a round.")] = _DEFAULTS.timeout,
    workers: Annotated[str, _option("Processes that run the clients, 0: this one; auto: as many as pay off.")] = str(
        _DEFAULTS.workers
    ),
    cohort: Annotated[
        str, _option("Clients trained together as one computation, 1: none; auto: as many as are found faster.")
    ] = str(_DEFAULTS.cohort),
    device: Annotated[str, _option("Where clients train: cpu, cuda or cuda:N.")] = _DEFAULTS.device,
    precision: Annotated[str, _option("What layers compute in: float32 or bfloat16.")] = _DEFAULTS.precision,
    compile: Annotated[bool, _option("Let torch.compile make code for a client's step.")] = _DEFAULTS.compile,
    prepare_for: Annotated[
        str, _option("Methods to keep updates or prepare for: federaser,quickdrop.", "NAMES", default="none")
    ] = _DEFAULTS.prepare_for,
    server_data: Annotated[
        float, _option("Share of the training samples that only the server gets, without labels.")
    ] = _DEFAULTS.server_data,
    ledger: Annotated[
        Text, _option("Database of the ledger: postgresql+psycopg://user@host/name.", "URL", default="in RUN")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a federation of simulated clients and keep it in a run folder."""
    with command_output(as_json) as output:
        from fedunlearn.federation import Federation

        federation = Federation.simulate(
            task,
            clients=clients,
            partition=partition,
            rounds=rounds,
            seed=seed,
            out=out,
            local_epochs=local_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            network=network,
            init=init,
            momentum=momentum,
            strategy=strategy,
            fraction=fraction,
            backdoor=backdoor,
            canaries=canaries,
            engine=engine,
            timeout=timeout,
            workers=workers,
            cohort=cohort,
            device=device,
            precision=precision,
            compile=compile,
            prepare_for=prepare_for,
            server_data=server_data,
            ledger=ledger,
        )
        training = federation.train(on_progress=output.on_progress)
        output.answer(
            {"run": federation.folder, "settings": federation.settings, "training": training},
            facts(training),
            f"Next: {command('request', federation.folder, '--client', 0)}",
        )


@app.command()
def request(
    run: Run,
    client: Annotated[int | None, _option("The client that asks; without it, every holder of the classes.")] = None,
    classes: Annotated[Text, _option("Only these classes: 3,4.", "NUMBERS", default="all")] = None,
    samples: Annotated[
        Text,
        _option("Only these samples, as indices into the client's own data: 1,5,9.", "NUMBERS", default="all"),
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
        output.answer(filed, facts(filed), f"Next: {command('unlearn', run, '--request', filed.id)}")


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
    request: Annotated[Text, _option("The deletion request.", "ID", default="every open one")] = None,
    method: Annotated[
        str, _option("How it is forgotten: a name of list methods, or auto: the cheapest.")
    ] = _UNLEARN.method,
    ratio: Annotated[
        str, _option("Share of the channels: auto, 0 to 1, or a share a layer: conv1=0.1,hidden=0.3.")
    ] = "auto",
    rounds: Annotated[
        int | None,
        _option(f"Recovery rounds: {_UNLEARN.rounds}, of retrain the federation's own, where none are named."),
    ] = None,
    local_epochs: Annotated[
        int | None,
        _option("Passes of a client over its data in a recovery round: half of those in training, of retrain all."),
    ] = None,
    together: Annotated[bool, typer.Option("--together", help="Serve all pending requests as one.")] = False,
    option: Annotated[
        list[str] | None,
        _option("An option of the method, such as attribution=ablation; may be repeated.", "NAME=VALUE"),
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
    request: Annotated[Text, _option("The deletion request.", "ID", default="the last one served")] = None,
    retrain: Annotated[
        bool, typer.Option(help="Retrain in full without the forget set, if that is not done yet.")
    ] = True,
    rounds_after: Annotated[int, _option("Ordinary rounds to train after that, and compare again.", "K")] = 0,
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
    processes: Annotated[int | None, _option("Cells that run at a time.", default="one a core")] = None,
    seeds: Annotated[
        Text, _option("Only these seeds, such as 1,2.", "SEEDS", default="all of the experiment's")
    ] = None,
    methods: Annotated[Text, _option("Only these methods.", "NAMES", default="all of the experiment's")] = None,
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
    request: Annotated[Text, _option("The deletion request.", "ID", default="the last one served")] = None,
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
    out: Annotated[Path, _option("Folder of the demonstration.", "RUN")] = Path("demo-run"),
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
