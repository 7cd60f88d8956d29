from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedunlearn.channels.packing import digest_state
from fedunlearn.clients.app import client_app
from fedunlearn.clients.filing import file_request
from fedunlearn.clients.inbox import Inbox
from fedunlearn.config import FederationSettings, UnlearnSettings, run_config_of
from fedunlearn.engines.local import FIRST_NODE_ID, LocalGrid
from fedunlearn.engines.quiet import quiet_flower
from fedunlearn.errors import ClientError
from fedunlearn.federation import Federation
from fedunlearn.strategies.content import array_record, numpy_arrays
from fedunlearn.strategies.inner import make_strategy
from fedunlearn.strategies.reception import Answer
from fedunlearn.strategies.serving import serve
from fedunlearn.strategies.unlearning import UnlearningStrategy
from fedunlearn.tasks.training import TrainingSettings

SETTINGS = {"clients": 3, "partition": "iid", "rounds": 2, "local_epochs": 1, "learning_rate": 0.1}
SPECS = ("fedavg", "fedprox:proximal_mu=0.1", "fedavgm:server_momentum=0.5", "fedadam", "fedmedian", "krum")


def run_config(folder: Path, seed: int = 0) -> dict[str, object]:
    return {**run_config_of(FederationSettings(task="digits", seed=seed, **SETTINGS)), "out": str(folder)}


def grid_of(folder: Path, seed: int = 0) -> LocalGrid:
    return LocalGrid(client_app, 3, run_config(folder, seed))


def wrapped(place, spec: str = "fedavg", **options: object) -> UnlearningStrategy:
    return UnlearningStrategy(
        make_strategy(spec),
        place.session.architecture,
        TrainingSettings(local_epochs=1, learning_rate=0.1),
        rounds=2,
        timeout=60.0,
        **options,  # type: ignore[arg-type]
    )


def train(place, folder: Path, strategy: object, rounds: int = 2, **options: object) -> dict[str, np.ndarray]:
    initial = array_record({n: t.numpy() for n, t in place.session.fresh(0).items()})
    with grid_of(folder) as grid, quiet_flower():
        found = strategy.start(grid, initial, num_rounds=rounds, timeout=60.0, **options)  # type: ignore[attr-defined]
    return numpy_arrays(found.arrays)


def test_fedavg_around_which_we_stand_is_flower_s_own(place, tmp_path: Path) -> None:
    ours = train(place, tmp_path / "a", wrapped(place))
    stock = FedAvg(fraction_evaluate=0.0, min_evaluate_nodes=0)
    theirs = train(place, tmp_path / "b", stock, train_config=ConfigRecord({"seed": 0}))
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=1e-6)
        assert ours[name].dtype == array.dtype


@pytest.mark.parametrize("spec", SPECS)
def test_every_inner_strategy_trains_and_is_deterministic(place, tmp_path: Path, spec: str) -> None:
    first, again = (train(place, tmp_path / part, wrapped(place, spec)) for part in "ab")
    assert digest_state(first) == digest_state(again)
    fresh = place.session.fresh(0)
    assert all(first[name].dtype == np.float32 and np.isfinite(first[name]).all() for name in fresh)
    assert digest_state(first) != digest_state(fresh)


def test_the_strategies_differ(place, tmp_path: Path) -> None:
    digests = {spec: digest_state(train(place, tmp_path / spec, wrapped(place, spec))) for spec in SPECS}
    assert len(set(digests.values())) == len(SPECS)


@pytest.mark.parametrize("spec", SPECS)
def test_a_resumed_federation_ends_where_an_uninterrupted_one_does(tmp_path: Path, spec: str) -> None:
    digests = []
    for parts in ([2], [1, 2]):
        federation = Federation.simulate("digits", strategy=spec, out=tmp_path / str(len(parts)), **SETTINGS)
        for rounds in parts:
            summary = Federation.open(federation.folder).train(rounds)
        digests.append(summary.digest)
    assert digests[0] == digests[1]


def test_a_share_of_the_clients_trains_and_the_seed_chooses(place, tmp_path: Path) -> None:
    strategy = wrapped(place)
    strategy.inner = make_strategy("fedavg", 0.34)
    train(place, tmp_path / "run", strategy, rounds=1)
    assert len(strategy.last_round.answers) == 1


def test_an_announced_request_is_served_before_the_next_round(place, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = UnlearnSettings(method="fine-tune", rounds=1)
    strategy = wrapped(place, unlearn=settings)
    served: list[tuple[str, ...]] = []
    serve_announced = strategy.serve_announced

    def serve_pending(grid, roster, model):
        served.append(tuple(one.id for one in roster.announced))
        return serve_announced(grid, roster, model)

    strategy._serve_pending = serve_pending

    def file_after_the_first(finished: int, arrays: object) -> None:
        if finished == 1:
            site = place.sites[2]
            file_request(folder / "clients" / "2", site.holding, classes=[1])

    train(place, folder, strategy, rounds=3, evaluate_fn=file_after_the_first)
    assert served == [("client-2-1",)]
    assert Inbox(folder / "clients" / "2").all()[0].state == "done"


def test_a_class_that_left_everywhere_stays_gone_for_later_requests(place, tmp_path: Path) -> None:
    folder, settings = tmp_path / "run", UnlearnSettings(method="fine-tune", rounds=1)
    for client in place.staying:
        own = folder / "clients" / str(client)
        file_request(own, place.sites[client].holding, classes=[2], everywhere="class-2")
    strategy = wrapped(place, unlearn=settings)
    train(place, folder, strategy, rounds=1)
    later = replace(place.jobs["class-everywhere"], classes=(5,))
    assert strategy.state_for(later, place.model, settings).gone == (2, 5)
    assert wrapped(place).state_for(later, place.model, settings).gone == (5,)


def test_what_is_asked_before_the_first_round_is_served(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stock app may go on from a checkpoint, whose model has learned from everybody."""
    folder, honest, served = tmp_path / "run", serve, list[tuple[int, ...]]()
    file_request(folder / "clients" / "2", place.sites[2].holding, classes=[1])

    def watched(grid, roster, method, state, job, *rest):
        served.append(job.targets)
        return honest(grid, roster, method, state, job, *rest)

    monkeypatch.setattr("fedunlearn.strategies.unlearning.serve", watched)
    train(place, folder, wrapped(place, unlearn=UnlearnSettings(method="fine-tune", rounds=1)), rounds=1)
    assert Inbox(folder / "clients" / "2").all()[0].state == "done" and served == [(2,)]


def test_a_round_without_an_answer_is_an_error(place, tmp_path: Path) -> None:
    strategy = wrapped(place)
    with grid_of(tmp_path / "run") as grid, quiet_flower():
        arrays = array_record({n: t.numpy() for n, t in place.session.fresh(0).items()})
        messages = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
        assert [m.metadata.dst_node_id for m in messages] == grid.get_node_ids()
        grid.push_messages(messages)
        failed = [Message(Error(2, "no luck."), reply_to=m) for m in messages]
        with pytest.raises(ClientError, match=r"nobody answered round 1: no luck\."):
            strategy.aggregate_train(1, failed)
        assert strategy.last_round.dropped == ((0, "no luck."), (1, "no luck."), (2, "no luck."))


def test_a_client_that_is_gone_for_good_does_not_end_the_training(place, tmp_path: Path) -> None:
    honest, dead = client_app(), set[int]()

    class App(ClientApp):
        def __call__(self, message: Message, context: Context) -> Message:
            client = int(context.node_config["partition-id"])
            if client == 1 and message.metadata.message_type == "train":
                dead.add(client)
            if client in dead:
                raise SystemExit(1)
            return honest(message, context)

    strategy, dropped = wrapped(place), []
    with LocalGrid(App(), 3, run_config(tmp_path)) as grid, quiet_flower():
        strategy.start(
            grid,
            array_record({n: t.numpy() for n, t in place.session.fresh(0).items()}),
            num_rounds=3,
            evaluate_fn=lambda finished, arrays: dropped.append([c for c, _ in strategy.last_round.dropped]),
        )
    assert dropped == [[], [1], [1], [1]]


def test_a_client_that_comes_late_or_comes_back_takes_part(place, tmp_path: Path) -> None:
    there, took_part = {0, 2}, []

    class Part(LocalGrid):
        def get_node_ids(self) -> list[int]:
            return [FIRST_NODE_ID + client for client in sorted(there)]

    def arrive(finished: int, arrays: object) -> None:
        there.update({1} if finished == 1 else ())
        took_part.append([answer.client for answer in strategy.last_round.answers])

    strategy = wrapped(place)
    with Part(client_app, 3, run_config(tmp_path)) as grid, quiet_flower():
        initial = array_record({n: t.numpy() for n, t in place.session.fresh(0).items()})
        strategy.start(grid, initial, num_rounds=2, evaluate_fn=arrive)
    assert took_part == [[], [0, 2], [0, 1, 2]]


def test_a_node_that_vanished_is_dropped_by_the_message_that_it_does_not_answer(place, tmp_path: Path) -> None:
    """Flower's server answers in its place, under its own node id."""
    strategy = wrapped(place)
    with grid_of(tmp_path / "run") as grid, quiet_flower():
        arrays = array_record({n: t.numpy() for n, t in place.session.fresh(0).items()})
        messages = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
        replies = grid.send_and_receive(messages[:2])
        gone = Message(Error(3, "node unavailable"), reply_to=messages[2])
        gone.metadata.__dict__["_src_node_id"] = 1
        strategy.aggregate_train(1, [*replies, gone])
    assert [answer.client for answer in strategy.last_round.answers] == [0, 1]
    assert strategy.last_round.dropped == ((2, "node unavailable"),)


def test_bytes_of_a_round_by_hand(place, tmp_path: Path) -> None:
    strategy = wrapped(place)
    found = train(place, tmp_path / "run", strategy, rounds=1)
    whole = sum(array.nbytes for array in found.values())
    for count in strategy.last_round.bytes.values():
        assert count["up"] == whole + 2 * 8  # num-examples and loss
        assert count["down"] == whole + 2 * 8  # seed and server-round
    assert torch.get_num_threads() >= 1


@pytest.mark.parametrize("spec", ["fedavg", "fedmedian"])
def test_each_sound_answer_of_a_round_is_shown_once_and_let_go(place, tmp_path: Path, spec: str) -> None:
    shown: list[tuple[int, int, str]] = []
    alive: list[weakref.ref[object]] = []

    def keep(number: int, answer: Answer) -> None:
        assert sum(one() is not None for one in alive) <= 1 or spec == "fedmedian"
        alive.append(weakref.ref(answer))
        shown.append((number, answer.client, digest_state({n: a.copy() for n, a in answer.arrays.items()})))

    kept = train(place, tmp_path / "kept", wrapped(place, spec, keep_update=keep, first_round=3))
    assert [(number, client) for number, client, _ in shown] == [(n, c) for n in (3, 4) for c in range(3)]
    assert len({digest for *_, digest in shown}) == 6
    plain = train(place, tmp_path / "plain", wrapped(place, spec, first_round=3))
    assert digest_state(kept) == digest_state(plain)
