"""The estimate against its three bounds in closed form, and where the minutes of a job come from."""

import pytest

from nnunet_stochastic.study.estimate import Minutes, estimate
from nnunet_stochastic.study.job import Job

RESOURCES = {("train", "threads"): 4, ("train", "gpu"): 1, ("predict", "threads"): 2, ("predict", "gpu"): 1}


def resource(kind, name):
    return RESOURCES.get((kind, name), int(name == "threads"))


def study(num_models):
    """A plan of 2 minutes, num_models trainings of 10, 3 predictions of 1 each, an evaluation of all of 4."""
    jobs = [Job("plan", "p", ())]
    for model in range(num_models):
        train = Job("train", f"{model}", (), needs=(("plan", "p"),))
        predictions = [Job("predict", f"{model}/{index}", (), needs=(train.key,)) for index in range(3)]
        jobs += [train, *predictions]
    return [*jobs, Job("evaluate", "e", (), needs=tuple(job.key for job in jobs if job.kind == "predict"))]


TIMES = {"plan": 2.0, "train": 10.0, "predict": 1.0, "evaluate": 4.0}


@pytest.mark.parametrize(
    ("num_models", "cores", "gpus", "minutes"),
    [
        (5, 1000, 1000, 2 + 10 + 1 + 4),  # the longest chain
        (5, 1000, 1, 5 * (10 + 3)),  # the GPU
        (5, 1000, 2, 5 * 13 / 2),
        (5, 8, 1000, (2 + 5 * (10 * 4 + 3 * 2) + 4) / 8),  # the cores
        (5, 2, 1000, (2 + 5 * (10 * 2 + 3 * 2) + 4) / 2),  # no job has more threads than there are cores
        (0, 4, 1, 2 + 0),
    ],
)
def test_bounds(num_models, cores, gpus, minutes):
    jobs = study(num_models) if num_models else study(0)[:1]
    found = estimate(jobs, lambda job: TIMES[job.kind], resource, cores=cores, gpus=gpus)
    assert found.minutes == pytest.approx(minutes)
    assert found.unknown == ()


def test_what_is_unknown_is_named_and_left_out():
    known = {"plan": 2.0, "evaluate": 4.0}
    found = estimate(study(2), lambda job: known.get(job.kind), resource, cores=1, gpus=0)
    assert found.minutes == pytest.approx(6)
    assert found.unknown == ("train", "predict")


def test_minutes_are_measured_on_like_jobs_first():
    def job(kind, dataset, trainer):
        return Job(kind, "x", (), dataset=dataset, trainer=trainer)

    measured = tuple(
        (job("train", dataset, trainer), minutes)
        for dataset, trainer, minutes in [
            ("A", "SSN", 1),
            ("A", "SSN", 2),
            ("A", "SSN", 9),
            ("A", "MoB", 20),
            ("B", "SSN", 30),
        ]
    )
    minutes = Minutes(measured, {("A", "predict"): 5.0, ("A", "train"): 100.0})
    assert minutes.of(job("train", "A", "SSN")) == 2
    assert minutes.of(job("train", "B", "SSN")) == 30
    assert minutes.of(job("train", "C", "SSN")) == 9
    assert minutes.of(job("predict", "A", "SSN")) == 5
    assert minutes.of(job("predict", "B", "SSN")) is None
