"""A record holds as long as the job would be done in the same way now, however that is shown and however fast it is."""

import json

import pytest

from nnunet_stochastic.study.job import Command, Job
from nnunet_stochastic.study.records import Records

PREPROCESS = ("nnunet_stochastic_preprocess_raters", "-d", "7", "-np", "4", "--disable_progress_bar")


def job(*words: str) -> Job:
    return Job("plan", "Dataset007", (Command(words),))


@pytest.mark.parametrize(
    ("recorded", "same"),
    [
        (PREPROCESS, True),
        # As a former version recorded it, which had another name for the flag and kept it.
        (("nnunet_stochastic_preprocess_raters", "-d", "7", "--no_pbar"), True),
        (("nnunet_stochastic_preprocess_raters", "-d", "7", "-np", "8"), True),
        (("nnunet_stochastic_preprocess_raters", "-d", "8", "--no_pbar"), False),
        (("nnunet_stochastic_preprocess_raters", "-d", "7", "--verbose"), False),
        ((), False),
    ],
)
def test_only_what_decides_the_result_counts(tmp_path, recorded, same):
    records, now = Records(tmp_path), job(*PREPROCESS)
    records.finish(now, seconds=1)
    for place in ("done", "begun"):
        file = tmp_path / place / "plan" / "Dataset007.json"
        content = json.loads(file.read_text())
        content["how"]["commands"] = [list(recorded)]
        file.write_text(json.dumps(content))
    assert records.is_done(now) == same
    assert records.stale({now.key: now}) == ({} if same else {now.key: "its commands have changed"})
    assert records.begin(now) == same


def test_a_record_of_nothing(tmp_path):
    records, now = Records(tmp_path), job(*PREPROCESS)
    records.finish(now)
    (tmp_path / "done" / "plan" / "Dataset007.json").write_text('{"how": {}}')
    assert not records.is_done(now)
