"""Does a sifted model answer rows that selection would keep better than those it would drop?

    python benchmarks/selection_bias.py runs/resnet_tiny/cifar100/seed_0/* [--files FOLDER]

Scoring by loss reads the label. Where the rest of the model can tell what the early classifier
answers, it can learn that this answer is wrong for what it is trained on, which does not hold for
rows that nobody has selected. So each run's last checkpoint is asked, in evaluation mode, about
images that it was trained on and about test images: in batches of candidates, half of which is kept
by the run's own criterion at the early exit, accuracy is printed for all rows, for the kept and for
the dropped ones, and that of the early classifier. Without sifting (by loss) the kept rows are the
harder ones.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sift_trainer import early_exit, last_whole_checkpoint, select_top_k
from sift_trainer.reproduction.images import ImageArguments, ImageData, load_images
from sift_trainer.reproduction.images.batches import EvaluationDataset
from sift_trainer.reproduction.resnet.model import EarlyExitResNetForImageClassification

CANDIDATES = 250


def start_of(folder: Path) -> dict:
    """The settings of a run, as its log says."""
    return json.loads((folder / "log.jsonl").open().readline())


def images_of(folder: Path, files: str | None) -> ImageData:
    """The data of a run."""
    start = start_of(folder)["images"]
    fields = ImageArguments.__dataclass_fields__
    settings = {name: value for name, value in start.items() if name in fields}
    if files is not None:
        settings["files"] = files
    return load_images(ImageArguments(**settings), progress=False)


def drawn(data: EvaluationDataset, rows: int) -> tuple[Tensor, Tensor]:
    """Images and labels of so many rows, chosen at random, in whole batches."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    chosen = order[: min(rows, len(data)) // CANDIDATES * CANDIDATES].tolist()
    found = data.__getitems__(chosen)
    labels = torch.tensor([row["labels"] for row in found])
    return torch.stack([row["pixel_values"] for row in found]), labels


@torch.no_grad()
def measure(
    model: EarlyExitResNetForImageClassification, images: Tensor, labels: Tensor, criterion: str
) -> dict:
    """Accuracies in [0, 1]."""
    right, early_right, kept = [], [], []
    for pixels, targets in zip(images.split(CANDIDATES), labels.split(CANDIDATES), strict=True):
        with early_exit(model, 1):
            early = model(pixel_values=pixels).logits
        right.append(model(pixel_values=pixels).logits.argmax(-1) == targets)
        early_right.append(early.argmax(-1) == targets)
        scores = cross_entropy(early, targets, reduction="none")
        if criterion == "entropy":
            scores = torch.distributions.Categorical(logits=early).entropy()
        rows = select_top_k(scores, CANDIDATES // 2)
        kept.append(torch.zeros(len(targets), dtype=torch.bool).index_fill(0, rows, True))
    answered, chosen = torch.cat(right), torch.cat(kept)
    return {
        "all": float(answered.float().mean()),
        "kept": float(answered[chosen].float().mean()),
        "dropped": float(answered[~chosen].float().mean()),
        "early classifier": float(torch.cat(early_right).float().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="output_dir of runs of one data set")
    parser.add_argument("--files", help="folder of the images, where it is not that of the run")
    parser.add_argument("--rows", type=int, default=2000)
    flags = parser.parse_args()
    folders = [folder for folder in flags.folders if (folder / "results.json").is_file()]
    data = images_of(folders[0], flags.files)
    trained = EvaluationDataset(data.train, data.test.image_size, data.test.mean, data.test.std)
    columns = ["all", "kept", "dropped", "early classifier"]
    print(f"| {'run':<24} | {'images':<7} | " + " | ".join(columns) + " |")
    print("|---|---" + "|---:" * len(columns) + "|")
    for name, dataset in (("train", trained), ("test", data.test)):
        images, labels = drawn(dataset, flags.rows)
        for folder in folders:
            checkpoint = last_whole_checkpoint(folder)
            model = EarlyExitResNetForImageClassification.from_pretrained(checkpoint).eval()
            criterion = start_of(folder)["training"]["sift_criterion"]
            found = measure(model, images, labels, criterion)
            figures = " | ".join(f"{found[column]:.3f}" for column in columns)
            print(f"| {folder.name:<24} | {name:<7} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
