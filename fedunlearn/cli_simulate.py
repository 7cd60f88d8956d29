"""`fedunlearn simulate`: train a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fedunlearn.cli_arguments import Json, option
from fedunlearn.cli_output import command, command_output, facts
from fedunlearn.config import FederationSettings

_DEFAULTS = FederationSettings()


def simulate(
    task: Annotated[str, option("Name, images:PATH or module:object; see: list tasks.")] = _DEFAULTS.task,
    clients: Annotated[int, option("Clients of the federation, 2 or more.")] = _DEFAULTS.clients,
    partition: Annotated[str, option("iid, dirichlet:A, pathological:K or by:COLUMN.")] = _DEFAULTS.partition,
    rounds: Annotated[int, option("Rounds of training; 0 with --init: none.")] = _DEFAULTS.rounds,
    seed: Annotated[int, option("The same seed gives the same model, bit for bit.")] = _DEFAULTS.seed,
    out: Annotated[Path, option("Folder of the run; one with the same settings is resumed.", "RUN")] = Path("run"),
    local_epochs: Annotated[int, option("Passes of a client over its data in a round.")] = _DEFAULTS.local_epochs,
    learning_rate: Annotated[float, option("Learning rate of the clients.")] = _DEFAULTS.learning_rate,
    batch_size: Annotated[int, option("Samples in a batch.")] = _DEFAULTS.batch_size,
    network: Annotated[str | None, option("Name of a network.", default="the task's")] = _DEFAULTS.network,
    init: Annotated[
        str | None,
        option("Model to start from: a safetensors file, or torchvision:NAME.", "PATH", default="a fresh one"),
    ] = _DEFAULTS.init,
    momentum: Annotated[float, option("Momentum of the clients' SGD, 0 to below 1.")] = _DEFAULTS.momentum,
    strategy: Annotated[str, option("Flower strategy: fedavg, fedprox:proximal_mu=0.1, krum …")] = _DEFAULTS.strategy,
    fraction: Annotated[float, option("Share of the clients in a round, above 0 to 1.")] = _DEFAULTS.fraction,
    backdoor: Annotated[
        str | None, option("Plant a back-door: client=0,share=0.8,target=0.", default="none")
    ] = _DEFAULTS.backdoor,
    canaries: Annotated[str | None, option("Plant canaries: client=0,count=300.", default="none")] = _DEFAULTS.canaries,
    engine: Annotated[str, option("What executes the clients: local or ray.")] = _DEFAULTS.engine,
    timeout: Annotated[float, option("Seconds after which a client is left out of a round.")] = _DEFAULTS.timeout,
    workers: Annotated[str, option("Processes that run the clients, 0: this one; auto: as many as pay off.")] = str(
        _DEFAULTS.workers
    ),
    cohort: Annotated[
        str, option("Clients trained together as one computation, 1: none; auto: as many as are found faster.")
    ] = str(_DEFAULTS.cohort),
    device: Annotated[str, option("Where clients train: cpu, cuda or cuda:N.")] = _DEFAULTS.device,
    precision: Annotated[str, option("What layers compute in: float32 or bfloat16.")] = _DEFAULTS.precision,
    compile: Annotated[bool, option("Let torch.compile make code for a client's step.")] = _DEFAULTS.compile,
    prepare_for: Annotated[
        str, option("Methods to keep updates or prepare for: federaser,quickdrop.", "NAMES", default="none")
    ] = _DEFAULTS.prepare_for,
    server_data: Annotated[
        float, option("Share of the training samples that only the server gets, without labels.")
    ] = _DEFAULTS.server_data,
    held_out: Annotated[
        float, option("Share of its samples that each client never trains on: its own unseen data.")
    ] = _DEFAULTS.held_out,
    class_harm: Annotated[
        float,
        option("Fall of a class that stays from which an unlearned model is refused; 1: none is."),
    ] = _DEFAULTS.class_harm,
    ledger: Annotated[
        str | None, option("Database of the ledger: postgresql+psycopg://user@host/name.", "URL", default="in RUN")
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
            held_out=held_out,
            class_harm=class_harm,
            ledger=ledger,
        )
        training = federation.train(on_progress=output.on_progress)
        output.answer(
            {"run": federation.folder, "settings": federation.settings, "training": training},
            facts(training),
            f"Next: {command('request', federation.folder, '--client', 0)}",
        )
