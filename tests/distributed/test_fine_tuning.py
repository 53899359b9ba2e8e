"""Two processes fine-tune by TRL: together one loop over the completions of all kept rows."""

import json

import pytest
import torch
from torch.nn import functional

from tests.distributed.launch import together
from tests.trainers.sentences import EOS, causal, parts

pytest.importorskip("trl", reason="TRL is not installed (it needs Python 3.11)")
from tests.distributed.fine_tuning_run import ACCUMULATION, KEPT, ROWS, STEPS

pytestmark = pytest.mark.distributed


def test_parameters_are_those_of_a_loop_over_the_union(tmp_path):
    together("tests/distributed/fine_tuning_run.py", tmp_path)
    records = [json.loads((tmp_path / f"record-{rank}.json").read_text()) for rank in range(2)]
    models = [torch.load(tmp_path / f"model-{rank}.pt", weights_only=True) for rank in range(2)]
    prompt = {(*a, *b, EOS): len(a) for a, b in parts(ROWS)}
    by_hand = causal()
    for step in range(STEPS):
        window = slice(step * ACCUMULATION, (step + 1) * ACCUMULATION)
        kept = [ids for record in records for batch in record[window] for ids in batch]
        assert len(kept) == 2 * ACCUMULATION * KEPT
        losses = []
        for ids in kept:
            start = prompt[tuple(ids)]
            logits = by_hand(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1]
            losses.append(
                functional.cross_entropy(logits, torch.tensor(ids[start:]), reduction="none")
            )
        by_hand.zero_grad()
        torch.cat(losses).mean().backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                parameter -= 0.05 * parameter.grad
    for name, expected in by_hand.state_dict().items():
        assert torch.equal(models[0][name], models[1][name])
        torch.testing.assert_close(models[0][name], expected, rtol=1e-5, atol=1e-6)
