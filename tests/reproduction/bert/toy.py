"""The quickstart made tiny: a small model, few steps, and a corpus of a few made-up words."""

import json
import random
from pathlib import Path

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
STEPS, BATCH = 6, 4
TINY = {
    "max_steps": STEPS,
    "per_device_train_batch_size": BATCH,
    "eval_steps": 3,
    "logging_steps": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "validation_samples": 32,
    "sift_warmup_steps": 2,
    "sift_cooldown_steps": 1,
}
WORDS = ["able", "ash", "bit", "cup", "dawn", "ebb", "fig", "gust", "hush", "ink", "jot", "kin"]


def flags(**values: object) -> list[str]:
    """``--name value`` of every one."""
    return [str(part) for key, value in values.items() for part in (f"--{key}", value)]


def documents(count: int) -> list[str]:
    """Fifteen sentences of six random words each."""
    words = random.Random(0).choices(WORDS, k=90 * count)
    return [
        " ".join(" ".join(words[i : i + 6]).capitalize() + "." for i in range(start, start + 90, 6))
        for start in range(0, 90 * count, 90)
    ]


def on_a_file(folder: Path, count: int) -> list[str]:
    """Flags of the quickstart with documents in a file, to be prepared in ``folder/corpus``."""
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(count)))
    corpus = {
        "sources": json.dumps({"mine": {"files": str(file)}}),
        "vocab_size": 60,
        "validation_fraction": 0.2,
        "data_dir": folder / "corpus",
    }
    return ["--config", str(QUICKSTART), *flags(**corpus)]
