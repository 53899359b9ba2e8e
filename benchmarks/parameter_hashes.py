"""Hashes of the parameters after short seeded runs, to compare two versions of this package.

    python benchmarks/parameter_hashes.py

A change of structure leaves every line as it was. The hashes depend on the machine and on the
versions of torch and transformers, so run both versions on one machine.
"""

import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    set_seed,
)

from sift_trainer import SiftTrainer, SiftTrainingArguments

ROWS, LENGTH, VOCABULARY = 256, 16, 96
SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
BERT = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, num_labels=4, **SIZE)
GPT2 = GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=32, n_layer=3, n_head=2)


def pretraining_rows() -> list[dict[str, Any]]:
    """Rows with masked language modelling labels and a label of next sentence prediction."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, VOCABULARY, (ROWS, LENGTH), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) > 0.2, -100)
    labels[:, 3] = ids[:, 3]
    order = torch.randint(0, 2, (ROWS,), generator=generator)
    columns = {"input_ids": ids, "labels": labels, "next_sentence_label": order}
    return [{name: values[row] for name, values in columns.items()} for row in range(ROWS)]


def causal_rows() -> list[dict[str, Any]]:
    """Rows whose labels are their ids."""
    return [
        {"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in pretraining_rows()
    ]


def classified_rows() -> list[dict[str, Any]]:
    """Rows with one of four classes each."""
    rows = pretraining_rows()
    return [{"input_ids": row["input_ids"], "labels": row["input_ids"][0] % 4} for row in rows]


RUNS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "BERT MLM + NSP, loss": (BertForPreTraining, BERT, pretraining_rows, {}),
    "BERT MLM + NSP, entropy": (
        BertForPreTraining,
        BERT,
        pretraining_rows,
        {"sift_criterion": "entropy", "sift_exit_layer": 2},
    ),
    "GPT-2, percentile": (GPT2LMHeadModel, GPT2, causal_rows, {"sift_selector": "percentile"}),
    "BERT classifier, accumulation 2, half at random": (
        BertForSequenceClassification,
        BERT,
        classified_rows,
        {"gradient_accumulation_steps": 2, "sift_selector": "mixed"},
    ),
}
TWO_PROCESSES = "BERT MLM + NSP, loss"


def parameters_after(name: str, folder: str) -> str:
    """SHA-256 of the parameters after the run, in the order of their names."""
    model_class, config, rows, settings = RUNS[name]
    set_seed(0)
    arguments = SiftTrainingArguments(
        **{
            "output_dir": folder,
            "max_steps": 12,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-3,
            "use_cpu": True,
            "logging_steps": 4,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "sift_warmup_steps": 2,
            "sift_criterion": "loss",
            "sift_selector": "top_k",
            **settings,
        }
    )
    trainer = SiftTrainer(model_class(config), arguments, train_dataset=rows())
    trainer.train()
    return hash_of(trainer.model.state_dict())


def hash_of(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of tensors, in the order of their names."""
    digest = sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def resnet_after(folder: Path) -> str:
    """SHA-256 of the parameters of a ResNet with a second classifier, trained by its script."""
    from PIL import Image
    from safetensors.torch import load_file

    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for label in range(3):
            place = folder / "images" / split / f"class_{label}"
            place.mkdir(parents=True)
            for number in range(16):
                pixels = torch.randint(0, 256, (32, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(place / f"{number}.png")
    config = folder / "tiny.yaml"
    config.write_text(
        "grid: {seed: [0]}\nruns: {early: {sift_exit_layer: 1}}\ndataset: generic\n"
        "stem: cifar\ndepths: [1, 1, 1, 1]\nhidden_sizes: [8, 16, 16, 16]\nembedding_size: 8\n"
        "sift_keep_ratio: 0.5\nsift_selector: top_k\nsift_warmup_steps: 0\nsift_cooldown_steps: 0\n"
        "max_steps: 6\nper_device_train_batch_size: 8\nlearning_rate: 1.0e-2\nbf16: false\n"
        "dataloader_num_workers: 0\nlogging_steps: 2\nsave_strategy: steps\nsave_steps: 6\n"
        "eval_strategy: steps\neval_steps: 6\nuse_cpu: true\nreport_to: []\n"
    )
    script = Path(__file__).parents[1] / "scripts" / "train_resnet.py"
    command = [sys.executable, script, "--config", config, "--output_dir", folder / "out"]
    command += ["--files", folder / "images"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    weights = sorted((folder / "out").rglob("model.safetensors"))
    if done.returncode or not weights:
        raise RuntimeError(f"the ResNet run failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return hash_of(load_file(weights[-1]))


def main() -> None:
    """Print a line for each run."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:  # one of two processes
        with tempfile.TemporaryDirectory() as folder:
            found = parameters_after(sys.argv[1], folder)
        if os.environ["RANK"] == "0":
            print(f"hash {found}")
        return
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{parameters_after(name, folder)}  {name}", flush=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
    ]
    command += ["29541", __file__, TWO_PROCESSES]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(f"{found.partition('hash ')[2].split()[0]}  {TWO_PROCESSES}, two processes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{resnet_after(Path(folder))}  ResNet, second classifier", flush=True)


if __name__ == "__main__":
    main()
