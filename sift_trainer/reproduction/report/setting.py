"""The size of an experiment beside the paper's."""

from typing import Any

from sift_trainer.reproduction import paper
from sift_trainer.reproduction.report.groups import MASKED_LM, Comparison
from sift_trainer.reproduction.report.page import Table
from sift_trainer.reproduction.report.runs import LoggedRun
from sift_trainer.reproduction.report.statistics import NONE


def setting_table(comparison: Comparison) -> Table:
    """Empty for an experiment that the paper does not have."""
    masked = comparison.measure == MASKED_LM
    theirs = (
        paper.BERT_SETTING if masked else paper.IMAGE_SETTINGS.get(comparison.dataset or "", {})
    )
    sizes = [_size(run) for run in comparison.runs]
    rows = []
    for name, value in theirs.items():
        here = dict.fromkeys(_text(size[name]) for size in sizes if size[name] is not None)
        rows.append({"": name, "paper": _text(value), "here": " or ".join(here) or NONE})
    return rows


def _size(run: LoggedRun) -> dict[str, Any]:
    """What `paper.BERT_SETTING` and `paper.IMAGE_SETTINGS` have, of a run; None if it is unknown or
    not part of the setting."""
    spent = run.final.spent
    rows = round(spent.backprop_samples / spent.step)
    warmup = run.setting("training", "sift_warmup_steps")
    if isinstance(warmup, float) and warmup < 1 and run.max_steps:
        warmup = round(warmup * run.max_steps)
    sifts = run.setting("training", "sift_keep_ratio") != 1
    same_time = run.setting("duration", "same_time_as") is not None
    depths = run.setting("model", "depths")
    return {
        "layers": run.setting("model", "num_hidden_layers"),
        "hidden size": run.setting("model", "hidden_size"),
        "tokens of a row": run.setting("corpus", "max_length"),
        "block groups": depths and ", ".join(map(str, depths)),
        "training images": run.setting("images", "train_rows"),
        "updates": None if same_time else spent.step,
        "rows of an update": rows,
        "images of an update": rows,
        "learning rate": run.setting("training", "learning_rate"),
        "sifting from update": warmup if sifts else None,
    }


def _text(value: Any) -> str:
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if value >= 1 else f"{value:g}"
    return str(value)
