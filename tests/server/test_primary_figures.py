from __future__ import annotations

import pytest
import torch

from fedunlearn.federation import Federation
from fedunlearn.local_clients import with_clients
from fedunlearn.server.branches import served_digest
from fedunlearn.server.examiner import Examiner
from fedunlearn.server.judging import planted_parts
from fedunlearn.server.life_cycle import gather
from fedunlearn.server.primary_figures import Figure, _detection, figures_of
from fedunlearn.tasks.training import evaluate


def figures(federation: Federation, classes: tuple[int, ...] | None) -> dict[str, Figure]:
    session = federation._session()
    model = session.models.load(served_digest(session))

    def work(grid) -> dict[str, Figure]:
        from fedunlearn.server.branches import job_for

        roster, rows = gather(grid, session.ledger, 60.0)
        return figures_of(Examiner(session, grid, roster, model), model, job_for(rows), classes)

    return with_clients(session, work)


def test_a_clients_request(federation: Federation) -> None:
    federation.request_deletion(client=0)
    found = figures(federation, None)
    session = federation._session()
    session.blank.load_state_dict(session.models.load(served_digest(session)))
    test = session.dataset.test
    answers = evaluate(session.task, session.blank, test)
    assert found["test_accuracy"] == Figure(float((answers.predictions == test.labels).double().mean()), len(test))
    own = federation._holding(0)
    forgotten = own.samples.take(own.training_positions())
    known = evaluate(session.task, session.blank, forgotten)
    assert found["forget_loss"].value == pytest.approx(float(known.losses.double().mean()), rel=1e-6)
    assert found["forget_loss"].samples is None and found["forget_accuracy"].samples == len(forgotten)
    assert planted_parts(found) == set() and "class_direction" not in found and "backdoor_success" not in found


def test_a_class_everywhere(federation: Federation) -> None:
    federation.request_deletion(classes=[1])
    found = figures(federation, (1,))
    session = federation._session()
    test = session.dataset.test
    answers = evaluate(session.task, session.blank, test)
    own = test.labels == 1
    assert found["forgotten_classes_loss"].value == pytest.approx(float(answers.losses[own].double().mean()))
    assert found["kept_classes_accuracy"].samples == int((~own).sum())
    chances = answers.logits.double().softmax(dim=1)[:, 1]
    pairs = (chances[own][:, None] > chances[~own][None]).double().mean()
    assert found["class_detection"] == Figure(pytest.approx(float(pairs), abs=1e-9), int(own.sum()))  # type: ignore[arg-type]
    assert found["class_direction"].value > 0 and found["class_direction"].samples is None


def test_detection_counts_ties_half_and_sees_through_a_silenced_unit() -> None:
    own = torch.tensor([True, True, False, False])
    equal = _detection(torch.zeros(4, 3), own, (0,))
    assert equal == Figure(0.5, 2)
    logits = torch.tensor([[-1e3, 1.0, 0], [-1e3, 2.0, 0], [-1e3, 5.0, 0], [-1e3, 6.0, 0]])
    assert _detection(logits, own, (0,)).value == 1.0


def test_what_was_planted_is_measured_by_itself(tmp_path) -> None:
    federation = Federation.simulate(
        "digits",
        clients=3,
        partition="iid",
        rounds=1,
        local_epochs=1,
        backdoor="client=0,share=0.5,target=0,size=2,margin=0",
        canaries="client=0,count=40",
        out=tmp_path / "run",
    )
    federation.train()
    federation.request_deletion(client=0)
    found = figures(federation, None)
    assert planted_parts(found) == {"triggered", "untriggered", "canaries"}
    assert found["canary_exposure"].samples == 40
    test = federation._session().dataset.test
    assert found["backdoor_success"].samples == int((test.labels != 0).sum())
