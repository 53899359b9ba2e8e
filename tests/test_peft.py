"""Models that PEFT wraps: the adapters' weights are part of every exit, and all that is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.matrix import MATRIX, Entry
from tests.test_matrix import alone, hardest, scored, trainer_of

peft = pytest.importorskip("peft")

LORA = {
    "llama, untied": ("CAUSAL_LM", ["q_proj", "v_proj"]),
    "llama, tied": ("CAUSAL_LM", ["q_proj", "v_proj"]),
    "bert": (None, ["query", "value", "dense"]),  # inside the pruned exit block too
    "t5": ("SEQ_2_SEQ_LM", ["q", "v"]),
    "bert, sequences": ("SEQ_CLS", ["query", "value"]),
    "albert": (None, ["query", "value"]),
}


def wrapped(name: str, model: Any = None, **more: Any) -> Any:
    """With adapters that are not zero, as after some training."""
    kind, targets = LORA[name]
    config = peft.LoraConfig(task_type=kind, target_modules=targets, r=2, lora_dropout=0.0, **more)
    made = peft.get_peft_model(MATRIX[name].build() if model is None else model, config)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter_name, parameter in made.named_parameters():
            if "lora_" in parameter_name:
                parameter += 0.5 * torch.randn(parameter.shape, generator=draw)
    return made.eval()


def merged_and_shorter(name: str, k: int) -> Any:
    """The adapters added to the weights, in a model that was made with k blocks."""
    return MATRIX[name].shorter(wrapped(name).merge_and_unload(), k)


@pytest.mark.parametrize("name", LORA)
def test_early_losses_are_those_of_merged_weights_in_a_shorter_model(
    name: str, tmp_path: Path
) -> None:
    entry: Entry = MATRIX[name]
    losses = alone(entry, merged_and_shorter(name, 1))
    bare = alone(entry, entry.shorter(entry.build(), 1))
    trainer = trainer_of(name, tmp_path, exit_layer=1, model=wrapped(name))
    trainer.train()
    found, kept = scored(trainer)
    known = ~losses.isnan()
    torch.testing.assert_close(found[known], losses[known], rtol=1e-4, atol=1e-4)
    assert (losses - bare)[known].abs().max() > 0.01
    assert kept == hardest(losses)


def test_only_the_adapters_are_trained_and_saved_and_loaded(tmp_path: Path) -> None:
    name = "llama, untied"
    model = wrapped(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = trainer_of(name, tmp_path, exit_layer=1, model=model)
    trainer.train()
    after = model.state_dict()
    changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
    # Also those of the blocks behind the exit, since all of the model is trained.
    adapters = {key for key in before if "lora_" in key}
    assert changed == adapters
    assert {key.split(".layers.")[1][0] for key in adapters} == {"0", "1", "2"}

    trainer.save_model(str(tmp_path / "adapter"))
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    loaded = peft.PeftModel.from_pretrained(
        MATRIX[name].build(), tmp_path / "adapter", is_trainable=True
    )
    again = trainer_of(name, tmp_path, exit_layer=1, model=loaded)
    again.train()
    expected = alone(MATRIX[name], MATRIX[name].shorter(model.merge_and_unload(), 1))
    torch.testing.assert_close(scored(again)[0], expected, rtol=1e-4, atol=1e-4)
    assert (scored(trainer)[0] - expected).abs().max() > 1e-3


def test_an_adapter_on_the_head_is_scored_with(tmp_path: Path) -> None:
    name = "llama, untied"
    entry = MATRIX[name]
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["lm_head"], r=2)
    model = peft.get_peft_model(entry.build(), config)
    with torch.no_grad():
        adapter = model.get_submodule("base_model.model.lm_head.lora_B.default")
        torch.nn.init.normal_(adapter.weight, generator=torch.Generator().manual_seed(0))
    losses = alone(entry, model.eval())
    trainer = trainer_of(name, tmp_path, exit_layer=-1, model=model)
    trainer.train()
    torch.testing.assert_close(scored(trainer)[0], losses, rtol=1e-4, atol=1e-5)
    assert (losses - alone(entry, entry.build())).abs().max() > 0.01
