from __future__ import annotations

import math

from fedunlearn.tasks.cohort_choice import LARGEST, TRIALS, Choice, Choices


def measured(alone: float, **seconds: float) -> Choice:
    """A choice in which `of4=0.5` stands for half a second of one of four."""
    trials = {int(name.removeprefix("of")): [taken] * TRIALS for name, taken in seconds.items()}
    return Choice(begun=True, alone=alone, trials=trials)


def test_small_numbers_are_tried_before_all_of_them() -> None:
    choice = Choice(alone=1.0)
    assert choice.next_trial(10, "auto", lasting=10) == 4
    choice.trials[4] = [0.9] * TRIALS
    assert choice.next_trial(10, "auto", lasting=10) == 8
    choice.trials[8] = [0.8] * TRIALS
    assert choice.next_trial(10, "auto", lasting=10) == 10
    choice.trials[10] = [0.7] * TRIALS
    assert choice.next_trial(10, "auto", lasting=10) is None
    assert choice.next_trial(3, "auto", lasting=3) == 3
    assert choice.next_trial(1, "auto", lasting=1) is None


def test_a_number_is_tried_several_times_and_as_a_number_at_once() -> None:
    choice = Choice(alone=1.0, trials={6: [0.5] * (TRIALS - 1)})
    assert choice.together(6) is None
    assert choice.next_trial(20, 6, lasting=20) == 6
    choice.trials[6].append(0.6)
    assert choice.together(6) == 0.5
    assert choice.next_trial(20, 6, lasting=20) is None


def test_nothing_is_begun_for_a_few_batches() -> None:
    assert Choice().next_trial(8, "auto", lasting=1) is None
    assert Choice().next_trial(8, "auto", lasting=3) == 3
    assert Choice(trials={4: [1.0]}).next_trial(8, "auto", lasting=0) == 4
    assert Choice(trials={4: [1.0]}).next_trial(3, "auto", lasting=0) is None


def test_no_more_are_tried_once_fewer_were_much_slower() -> None:
    assert measured(1.0, of4=1.3).next_trial(16, "auto", lasting=16) is None
    assert measured(1.0, of4=1.1).next_trial(16, "auto", lasting=16) == 8


def test_auto_takes_the_quickest_and_fills_up_with_what_is_left() -> None:
    choice = measured(1.0, of4=0.8, of8=0.5, of16=0.7)
    assert choice.widths(LARGEST, "auto") == [8, 8]
    assert choice.widths(13, "auto") == [8, 4]
    assert choice.widths(3, "auto") == []


def test_auto_takes_nothing_that_is_hardly_quicker_or_inexact() -> None:
    assert measured(1.0, of4=0.99).widths(4, "auto") == []
    choice = measured(1.0, of8=0.5)
    choice.trials[8][0] = math.inf
    assert choice.together(8) == math.inf
    assert choice.widths(8, "auto") == choice.widths(8, 8) == []


def test_a_number_takes_the_most_that_are_exact_whatever_their_time() -> None:
    choice = measured(1.0, of4=3.0, of8=2.0)
    assert choice.widths(13, 8) == [8, 4]
    assert choice.widths(13, 4) == [4, 4, 4]


def test_a_step_of_computing_is_refused() -> None:
    choice = Choice()
    choice.overhead_found(full=1.0, single=0.5)
    assert choice.refused is None
    choice.overhead_found(full=1.0, single=0.1)
    assert choice.refused is not None and "90% computing" in choice.refused
    assert choice.next_trial(8, "auto", lasting=8) is None and choice.widths(8, "auto") == []


def test_what_is_found_out_is_kept() -> None:
    choices = Choices()
    choices.of(("lenet", 8)).alone = 2.0
    assert choices.of(("lenet", 8)).alone == 2.0
    assert choices.of(("lenet", 32)).alone == math.inf
