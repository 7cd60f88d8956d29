from __future__ import annotations

import logging
import os

import pytest

from fedunlearn.engines.mapping import map_jobs
from fedunlearn.errors import FedunlearnError, SettingsError


@pytest.fixture
def jobs(client_module):
    """Name of a module with functions to map."""
    module = client_module(
        """
        import os, signal, time
        from pathlib import Path

        import fedunlearn.engines.mapping
        from fedunlearn.engines import LocalGrid
        from fedunlearn.errors import DataError

        cached = []

        def double(job):
            cached.append(job)
            return {"twice": 2 * job["x"], "pid": os.getpid(), "cached": len(cached)}

        def sleep(job):
            time.sleep(job["seconds"])
            return job["seconds"]

        def fail(job):
            if job["x"] == 1:
                raise DataError("there is no sample.")
            if job["x"] == 2:
                raise ValueError("two\\nlines")
            Path(job["folder"], str(job["x"])).touch()

        def die(job):
            mark = Path(job["mark"])
            if job["always"] or not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return "survived"

        def unspeakable(job):
            return object()

        def nested(job):
            pids = fedunlearn.engines.mapping.map_jobs(__name__ + ":double", [{"x": 1}, {"x": 2}], workers=2)
            threads = os.environ["OMP_NUM_THREADS"]
            return {"same": {one["pid"] for one in pids} == {os.getpid()}, "threads": threads, "here": os.getcwd()}
        """
    )
    return module.__name__


def test_results_come_in_the_order_of_the_jobs_from_processes_that_last(jobs):
    done = []
    first = map_jobs(f"{jobs}:double", [{"x": n} for n in range(6)], 2, lambda index, result: done.append(index))
    assert [result["twice"] for result in first] == [0, 2, 4, 6, 8, 10]
    assert sorted(done) == list(range(6))
    again = map_jobs(f"{jobs}:double", [{"x": n} for n in range(6)], workers=2)
    assert {result["pid"] for result in again} == {result["pid"] for result in first}
    assert os.getpid() not in {result["pid"] for result in first}
    # What the module keeps is there for the next job.
    assert max(result["cached"] for result in again) >= 4


def test_who_is_done_gets_the_next_job(jobs):
    order = []
    seconds = [0.6, 0.01, 0.01, 0.01]
    map_jobs(f"{jobs}:sleep", [{"seconds": s} for s in seconds], 2, lambda index, _: order.append(index))
    assert order == [1, 2, 3, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_all_jobs_are_finished_before_the_first_that_failed_is_named(jobs, tmp_path, caplog, workers):
    asked = [{"x": n, "folder": str(tmp_path)} for n in range(5)]
    match = rf"2 of 5 jobs of {jobs}:fail did not work; job 1 \(.*\): there is no sample\.$"
    with caplog.at_level(logging.ERROR), pytest.raises(FedunlearnError, match=match):
        map_jobs(f"{jobs}:fail", asked, workers)
    assert sorted(path.name for path in tmp_path.glob("[0-9]")) == ["0", "3", "4"]
    logged = [record.getMessage() for record in caplog.records if record.name == "fedunlearn.jobs"]
    assert len(logged) == 2 and all("Traceback" in text for text in logged) and "ValueError" in logged[1]


def test_a_job_whose_worker_was_killed_is_run_once_more(jobs, tmp_path):
    asked = [{"mark": str(tmp_path / str(n)), "always": False} for n in range(3)]
    assert map_jobs(f"{jobs}:die", asked, workers=2) == ["survived"] * 3
    asked = [{"mark": str(tmp_path / "x"), "always": always} for always in (True, False)]
    with pytest.raises(FedunlearnError, match=r"1 of 2 jobs .* job 0 .*its worker process died twice"):
        map_jobs(f"{jobs}:die", asked, workers=2)


def test_what_json_cannot_carry_and_what_is_not_there_is_said(jobs):
    with pytest.raises(FedunlearnError, match="JSON cannot carry its result"):
        map_jobs(f"{jobs}:unspeakable", [{}], workers=1)
    with pytest.raises(FedunlearnError, match=r"AttributeError: .*'nothing'"):
        map_jobs(f"{jobs}:nothing", [{}], workers=1)


def test_jobs_within_jobs_stay_in_their_process_and_work_where_the_parent_is(jobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (result,) = map_jobs(f"{jobs}:nested", [{}], workers=1)
    assert result == {"same": True, "threads": "1", "here": str(tmp_path)}


def test_workers_import_what_the_jobs_need(jobs, client_module):
    (result,) = map_jobs(f"{jobs}:double", [{"x": 1}], 1, imports=[client_module("").__name__])
    assert result["pid"] != os.getpid()
    with pytest.raises(FedunlearnError, match="No module named 'nowhere_at_all'"):
        map_jobs(f"{jobs}:double", [{"x": 1}], 1, imports=["nowhere_at_all"])
    (result,) = map_jobs(f"{jobs}:double", [{"x": 1}], 1, imports=["__main__"])
    assert result["pid"] == os.getpid()


def test_no_jobs_and_wrong_numbers(jobs):
    assert map_jobs(f"{jobs}:double", []) == []
    (result,) = map_jobs(f"{jobs}:double", [{"x": 4}], workers=0)
    assert result["twice"] == 8 and result["pid"] == os.getpid()
    with pytest.raises(SettingsError, match="workers is -1"):
        map_jobs(f"{jobs}:double", [{"x": 4}], workers=-1)
