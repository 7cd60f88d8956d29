"""The engine benchmark's own arithmetic, and one small run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ENGINES = Path(__file__).parents[2] / "benchmarks" / "engines"
Modules = dict[str, ModuleType]


def test_contenders_take_turns_at_being_first(engine_benchmark: Modules) -> None:
    order = list(engine_benchmark["arithmetic"].turns(["a", "b", "c"], 4))
    assert [name for _, name in order] == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]
    assert [repetition for repetition, _ in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_figure_is_the_median_of_the_processes_medians(engine_benchmark: Modules) -> None:
    runs = [
        {"rounds": [1.0, 2.0, 9.0], "start_up": 5.0, "peak": 100},
        {"rounds": [4.0, 4.0, 4.0], "start_up": 7.0, "peak": 300},
        {"rounds": [3.0, 3.0, 100.0], "start_up": 6.0, "peak": 200},
    ]
    assert engine_benchmark["arithmetic"].summary(runs) == {
        "round": 3.0,
        "least": 2.0,
        "most": 4.0,
        "start_up": 6.0,
        "peak": 300.0,
        "processes": 3,
    }


def test_a_ratio_above_one_means_that_the_subject_is_quicker(engine_benchmark: Modules) -> None:
    summaries = {"ours": {"round": 2.0}, "theirs": {"round": 5.0}}
    assert engine_benchmark["arithmetic"].ratios(summaries, "ours") == {"theirs": 2.5}


def test_time_a_message_is_in_milliseconds(engine_benchmark: Modules) -> None:
    assert engine_benchmark["arithmetic"].per_message(0.5, 1000) == 0.5


def test_every_contender_is_a_script_and_every_job_has_one(engine_benchmark: Modules) -> None:
    jobs = engine_benchmark["jobs"]
    for contender in jobs.CONTENDERS:
        assert (ENGINES / "contenders" / contender.script).is_file()
    for job in jobs.JOBS:
        assert any(contender.leaves_out(job) is None and contender.limit for contender in jobs.CONTENDERS), job.name
    assert len({job.name for job in jobs.JOBS}) == len(jobs.JOBS)


def test_who_would_take_too_long_is_left_out_with_a_word(engine_benchmark: Modules) -> None:
    jobs = engine_benchmark["jobs"]
    ray = next(contender for contender in jobs.CONTENDERS if "Ray" in contender.name)
    assert ray.leaves_out(jobs.no_op(100, 0.1, 1)) is None
    assert ray.leaves_out(jobs.no_op(10_000, 0.1, 1)) == ray.why_not != ""


def test_memory_counts_children_too(engine_benchmark: Modules) -> None:
    holder = "import time; kept = bytearray(60_000_000); print('ready', flush=True); time.sleep(30)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert engine_benchmark["measured_process"].tree_memory(process.pid) > 60_000_000
    finally:
        subprocess.run(["pkill", "-P", str(process.pid)], check=False)
        process.kill()
        process.wait()


def test_a_process_without_an_answer_says_its_last_line(engine_benchmark: Modules) -> None:
    module = engine_benchmark["measured_process"]
    with pytest.raises(module.ContenderFailed, match="it is missing"):
        module.measure([sys.executable, "-c", "raise SystemExit('it is missing')"], {}, timeout=30)


def test_the_limit_does_a_job_and_the_tables_show_it(engine_benchmark: Modules, tmp_path: Path) -> None:
    script = ENGINES / "contenders" / "numpy_sum.py"
    job = {"megabytes": 0.01, "clients": 3, "sampled": 3, "rounds": 2}
    answer = engine_benchmark["measured_process"].measure([sys.executable, str(script), json.dumps(job)], {}, 60)
    assert len(answer["rounds"]) == 2
    document = {
        "jobs": {
            "small": {
                "environment": {"cpus": 2, "platform": "here", "python": "3", "packages": {"numpy": "2"}},
                "job": job,
                "summary": {
                    "fedunlearn, inline": engine_benchmark["arithmetic"].summary([{**answer, "rounds": [0.5]}]),
                    "limit: numpy": engine_benchmark["arithmetic"].summary([{**answer, "rounds": [0.25]}]),
                },
                "left_out": {"somebody": "not installed"},
            }
        },
    }
    engine_benchmark["tables"].write_tables(document, tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "| limit: numpy | 0.5 | 0.25 |" in text
    assert "2 cores, here, Python 3; numpy 2." in text
    assert "Left out: somebody: not installed." in text
    assert (tmp_path / "rounds.png").stat().st_size > 1000


def test_every_client_of_a_training_job_has_its_own_samples(engine_benchmark: Modules, tmp_path: Path) -> None:
    import numpy as np

    path = engine_benchmark["workload"].write_client_data("digits", 4, tmp_path / "data.npz")
    with np.load(path) as stored:
        sizes = [len(stored[f"labels-{client}"]) for client in range(4)]
        assert stored["inputs-0"].dtype == np.uint8 or stored["inputs-0"].max() <= 1
    assert sum(sizes) > 1000 and min(sizes) > 200
