"""Nothing that comes from elsewhere runs code: checkpoints, configurations, hubs."""

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sift_trainer import SiftTrainer
from sift_trainer.checkpoints.manifest import write_manifest
from sift_trainer.reproduction.configuration import ConfigError, load_yaml
from tests.training import Rows, arguments, bert

PACKAGE = Path(__file__).resolve().parents[1] / "sift_trainer"
SCRIPTS = PACKAGE.parent / "scripts"


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    args = arguments(tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    SiftTrainer(bert(), args, train_dataset=Rows(48)).train()
    return tmp_path / "checkpoint-1"


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "pytorch_model.bin"])
def test_pickles_in_a_checkpoint_do_not_run(name: str, checkpoint: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    if name == "pytorch_model.bin":
        (checkpoint / "model.safetensors").unlink()
    torch.save({"state": Malicious(made)}, checkpoint / name)
    write_manifest(checkpoint)
    trainer = SiftTrainer(bert(), arguments(tmp_path, max_steps=2), train_dataset=Rows(48))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    assert not made.exists()
    torch.load(checkpoint / name, weights_only=False)
    assert made.exists()  # so it would have run


def test_saved_arguments_are_not_read(checkpoint: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save(Malicious(made), checkpoint / "training_args.bin")
    write_manifest(checkpoint)
    trainer = SiftTrainer(bert(), arguments(tmp_path, max_steps=2), train_dataset=Rows(48))
    assert trainer.train(resume_from_checkpoint=True).global_step == 2
    assert not made.exists()


def test_weights_are_saved_as_safetensors(checkpoint: Path) -> None:
    binaries = {path.name for path in checkpoint.iterdir()} - {"training_args.bin"}
    assert "model.safetensors" in binaries
    assert not [name for name in binaries if name.endswith(".bin")]


def test_tags_in_a_configuration_are_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    config = tmp_path / "config.yaml"
    config.write_text(f"output_dir: !!python/object/apply:os.mkdir [{made}]\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load_yaml(config)
    assert not made.exists()


UNSAFE = re.compile(
    r"trust_remote_code=(?!False)|weights_only=False|\b(import|from) (pickle|dill|marshal|shelve)\b"
    r"|yaml\.(unsafe_load|full_load|Loader|FullLoader|UnsafeLoader)|(?<![.\w])(eval|exec)\("
)


def test_no_remote_code_and_no_unsafe_loading_in_the_package() -> None:
    files = [*PACKAGE.rglob("*.py"), *SCRIPTS.rglob("*.py")]
    assert len(files) > 20
    assert [path.name for path in files if UNSAFE.search(path.read_text())] == []
