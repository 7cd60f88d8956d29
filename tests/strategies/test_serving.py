from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedunlearn.channels.packing import digest_state
from fedunlearn.config import UnlearnSettings
from fedunlearn.errors import ClientError, RequestError
from fedunlearn.strategies.method import Reply, methods
from fedunlearn.strategies.roster import Roster
from fedunlearn.strategies.serving import sample, serve

SETTINGS = UnlearnSettings(method="fine-tune", rounds=3)


class Stopped(Exception):
    """Stands for the end of the process."""


class Interrupted:
    """A recorder that keeps all, and stops after some phases."""

    def __init__(self, stop_after: int) -> None:
        self.stop_after = stop_after
        self.kept = []

    def resume(self, state):
        return (len(self.kept), self.kept[-1]) if self.kept else (0, state)

    def record(self, before, after, report) -> None:
        assert digest_state(before.model) != digest_state(after.model)
        self.kept.append(after)
        if len(self.kept) == self.stop_after:
            raise Stopped


def test_an_interrupted_job_goes_on_to_the_same_end(place) -> None:
    whole, _ = place.serve("client", SETTINGS)
    recorder = Interrupted(2)
    arguments = (place.grid, place.roster, methods.get("fine-tune"), place.state("client", SETTINGS))
    with pytest.raises(Stopped):
        serve(*arguments, place.jobs["client"], recorder, 60.0)
    resumed = serve(*arguments, place.jobs["client"], recorder, 60.0)
    assert len(recorder.kept) == 3
    assert digest_state(resumed.model) == digest_state(whole.model)


def test_what_is_observed_is_recorded_with_the_round(place) -> None:
    seen = []

    def observe(phase, after):
        seen.append(phase.message)
        return {"figure": len(seen)}

    _, witness = place.serve("client", SETTINGS, observe=observe)
    assert [report.metrics for report in witness.reports] == [{"figure": n} for n in (1, 2, 3)]


def test_nobody_left_with_data_is_refused(place) -> None:
    empty = {c: replace(member, retained=0) for c, member in place.roster.members.items()}
    with pytest.raises(RequestError, match="would leave the federation without data"):
        place.serve("client", SETTINGS, roster=Roster(empty))


def test_a_phase_that_nobody_answers_is_an_error(place) -> None:
    elsewhere = {c: replace(member, node=9999) for c, member in place.roster.members.items()}
    with pytest.raises(ClientError, match=r"nobody answered 'train\.recover' of method 'fine-tune'"):
        place.serve("client", SETTINGS, roster=Roster(elsewhere))


def test_an_answer_for_less_than_no_sample_is_left_out(place, monkeypatch) -> None:
    """Whatever a phase makes of the answers, one that lies about its weight would turn the others around."""
    own = place.sites[2].training_samples().inputs

    def lie(work):
        return Reply({}, {"num-examples": -5 if torch.equal(work.retain.inputs, own) else len(work.retain)})

    monkeypatch.setattr("fedunlearn.strategies.role_counts.say_retained", lie)
    _, witness = place.serve("classes", UnlearnSettings(method="gs-lora", rounds=1))
    _, counted = [report.outcome for report in witness.reports if report.phase.message == "query.count"]
    [(client, sentence)] = counted.dropped
    assert client == 2 and "expected the metric 'num-examples', 0 or more" in sentence
    assert len(counted.answers) == len(place.staying) - 1


def test_a_share_of_the_clients_is_sampled_by_the_seed(place) -> None:
    first, again = (place.serve("client", SETTINGS, fraction=0.5)[1] for _ in range(2))
    chosen = [[a.client for a in report.outcome.answers] for report in first.reports]
    assert chosen == [[a.client for a in report.outcome.answers] for report in again.reports]
    assert all(len(clients) == 2 and set(clients) <= set(place.staying) for clients in chosen)


def test_sampling_is_sorted_seeded_and_never_empty() -> None:
    clients = tuple(range(20))
    drawn = [sample(clients, 0.3, seed) for seed in range(30)]
    assert all(len(one) == 6 and list(one) == sorted(set(one)) and set(one) <= set(clients) for one in drawn)
    assert len(set(drawn)) > 20 and drawn[3] == sample(clients, 0.3, 3)
    assert len(sample((4, 9), 0.01, 0)) == 1
