"""The size of an experiment beside the paper's."""

from typing import Any

from sift_trainer import paper
from sift_trainer.reporting.groups import MASKED_LM, Comparison
from sift_trainer.reporting.page import Table
from sift_trainer.reporting.reading import LoggedRun
from sift_trainer.reporting.statistics import NONE


def setting_table(comparison: Comparison) -> Table | None:
    """None for an experiment that the paper does not have."""
    theirs: dict[str, Any]
    if comparison.measure == MASKED_LM:
        theirs, read = paper.BERT_SETTING, _bert
    elif comparison.dataset in paper.IMAGE_SETTINGS:
        theirs, read = paper.IMAGE_SETTINGS[comparison.dataset], _images
    else:
        return None
    found = [read(run) for run in comparison.runs]
    rows = [["", "paper", "here"]]
    for name, value in theirs.items():
        values = dict.fromkeys(_text(each[name]) for each in found if each[name] is not None)
        rows.append([name, _text(value), " or ".join(values) or NONE])
    return Table(rows)


def is_the_papers(comparison: Comparison) -> bool:
    """Whether the size of it is the paper's in everything that the table shows."""
    table = setting_table(comparison)
    return table is not None and all(row[1] == row[2] for row in table.rows[1:])


def _bert(run: LoggedRun) -> dict[str, Any]:
    steps = run.max_steps
    warmup = run.setting("training", "sift_warmup_steps")
    if isinstance(warmup, float) and warmup < 1 and steps:
        warmup = round(warmup * steps)
    sifts = run.setting("training", "sift_keep_ratio") != 1
    return {
        "layers": run.setting("model", "num_hidden_layers"),
        "hidden size": run.setting("model", "hidden_size"),
        "tokens of a row": run.setting("corpus", "max_length"),
        "updates": run.run.final.spent.step,
        "rows of an update": _rows(run),
        "learning rate": run.setting("training", "learning_rate"),
        "sifting from update": warmup if sifts else None,
    }


def _images(run: LoggedRun) -> dict[str, Any]:
    depths = run.setting("model", "depths")
    same_time = run.setting("duration", "same_time_as") is not None
    return {
        "block groups": ", ".join(map(str, depths)) if isinstance(depths, list) else None,
        "training images": run.setting("images", "train_rows"),
        "updates": None if same_time else run.run.final.spent.step,
        "images of an update": _rows(run),
    }


def _rows(run: LoggedRun) -> float | None:
    """Samples trained on in an update, counted."""
    spent = run.run.final.spent
    return round(spent.backprop_samples / spent.step) if spent.step else None


def _text(value: Any) -> str:
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if value >= 1 else f"{value:g}"
    return str(value)
