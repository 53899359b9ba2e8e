"""The models of the tasks, and what is measured on their validation rows."""

import numpy as np
import torch
import transformers as hf
from torch import Tensor, nn

from sift_trainer import per_sample_loss
from sift_trainer.reproduction.resnet.model import EarlyExitResNetConfig
from tasks.data import Row, TaskData, fields

ROWS = 16  # of an evaluation batch: the logits of a vocabulary are large
HEADS = {"texts": "SequenceClassification", "words": "TokenClassification", "masked": "MaskedLM"}
HEADS |= {"answers": "CausalLM", "images": "ImageClassification"}


def source(name: str) -> dict[str, str]:
    """Arguments of ``from_pretrained`` for a hub name, a folder or a GGUF file."""
    folder, _, file = name.rpartition("/")
    gguf = {"pretrained_model_name_or_path": folder, "gguf_file": file}
    return gguf if file.endswith(".gguf") else {"pretrained_model_name_or_path": name}


def build(task: Row, name: str, classes: int) -> nn.Module:
    """A model of the task, pretrained or by its ``shape``; new weights by the global seed."""
    auto = getattr(hf, f"AutoModelFor{HEADS[task['kind']]}")
    labels = {"num_labels": classes} if classes else {}
    if task["kind"] == "images":
        return auto.from_config(EarlyExitResNetConfig(**task["shape"], **labels))
    if "shape" in task:
        return auto.from_config(hf.AutoConfig.from_pretrained(**source(name), **task["shape"]))
    model = auto.from_pretrained(**source(name), dtype=torch.float32, **labels)
    if "lora" in task:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **task["lora"]))
    return model


@torch.no_grad()
def row_losses(model: nn.Module, batch: Row, kind: str) -> list[Tensor]:
    """The exact loss (B,) of each row, in nats, and predicted and given labels, without a trace."""
    training, parts = model.training, []
    model.eval()
    for at in range(0, len(batch["labels"]), ROWS):
        rows = {name: values[at : at + ROWS].to(model.device) for name, values in batch.items()}
        labels = rows.pop("labels")
        logits = model(**rows).logits
        if kind == "answers":  # a token is predicted by the one before
            logits, labels = logits[:, :-1], labels[:, 1:]
        parts.append((per_sample_loss(logits, labels), logits.argmax(-1), labels))
    model.train(training)
    return [torch.cat(part).cpu() for part in zip(*parts, strict=True)]


def evaluate(model: nn.Module, task: Row, data: TaskData) -> dict[str, float]:
    """Loss and accuracy over labelled positions, and what the task adds."""
    kind, rows, counts, found, given = task["kind"], data.validation, np.zeros(3), [], []
    collate = hf.default_data_collator if kind == "masked" else data.collate
    for at in range(0, len(rows), ROWS):
        batch = collate(fields(rows[at : at + ROWS]))
        losses, predicted, labels = row_losses(model, batch, kind)
        known = (labels != -100).reshape(len(labels), -1).sum(1).double()
        right = (predicted == labels).sum().item()
        counts += (losses.double() @ known).item(), right, known.sum().item()
        found, given = found + predicted.tolist(), given + labels.tolist()
    metrics = {"loss": counts[0] / counts[2], "accuracy": counts[1] / counts[2]}
    if kind in ("texts", "images"):
        right, true = np.equal(found, given), np.array(given)
        by_class = [right[true == label].mean() for label in np.unique(true)]
        metrics["balanced_accuracy"] = float(np.mean(by_class))
    elif kind == "words":
        pairs = [zip(f, g, strict=True) for f, g in zip(found, given, strict=True)]
        tags = [[data.classes[f] for f, g in pair if g != -100] for pair in pairs]
        metrics["f1"] = entity_f1([row["tags"] for row in rows], tags)
    elif kind == "answers":
        ends = [slice(*(place - 1 for place in row["final"])) for row in rows]
        final = [f[at] == g[at] for f, g, at in zip(found, given, ends, strict=True)]
        metrics["final_accuracy"] = float(np.mean(final))
    return metrics


def entities(tags: list[str]) -> set[tuple[str, int, int]]:
    """Type, first word and end of the entities in B-, I- and O tags. As in CoNLL's script, I- after
    O or another type begins an entity."""
    found, start = set(), None
    for place, tag in enumerate([*tags, "O"]):
        if start is not None and (tag[0] != "I" or tag[2:] != tags[start][2:]):
            found.add((tags[start][2:], start, place))
            start = None
        start = place if start is None and tag != "O" else start
    return found


def entity_f1(given: list[list[str]], predicted: list[list[str]]) -> float:
    """F1 of whole entities, over all sentences together; 0 if none is right. Tags that a prediction
    lacks at the end of a sentence are O."""
    pairs = [(entities(g), entities(p)) for g, p in zip(given, predicted, strict=True)]
    return 2 * sum(len(g & p) for g, p in pairs) / max(1, sum(len(g) + len(p) for g, p in pairs))
