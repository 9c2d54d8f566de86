from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lingraft.training.progress import ProgressLog


@pytest.mark.parametrize("kind", ["training", "validation"])
def test_every_loss_that_is_said_names_its_unit(tmp_path, caplog, kind) -> None:
    log = ProgressLog(tmp_path / "log.jsonl", num_validated=2)
    state = SimpleNamespace(is_world_process_zero=True, global_step=4, max_steps=8, log_history=[{"loss": 1.0}])
    log.on_train_begin(None, state, None)
    with caplog.at_level("INFO", logger="lingraft"):
        if kind == "training":
            log.on_log(None, state, None, logs={"loss": 2.5, "loss_swh_Latn": 2.0})
            assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1]) == {"loss": 1.0}
        else:
            log.on_evaluate(None, state, None, metrics={"eval_swh_Latn_loss": 2.0})
            log.on_evaluate(None, state, None, metrics={"eval_eng_Latn_loss": 3.0})
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"step 4/8  {kind} loss, nats per token  " in line
    assert "swh_Latn 2.000" in line
