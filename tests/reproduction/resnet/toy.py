"""The paper's configurations made tiny: a narrow ResNet on class folders of noise."""

from pathlib import Path

import yaml

from tests.reproduction.bert.toy import flags
from tests.reproduction.images.pictures import class_folders

ROOT = Path(__file__).parents[3]
RESNET50 = ROOT / "configs" / "resnet50"
CLASSES = ["apple", "baby", "bear"]
STEPS, BATCH = 6, 4
TINY = {
    "dataset": "generic",
    "image_size": 16,
    "stem": "cifar",
    "max_steps": STEPS,
    "per_device_train_batch_size": BATCH,
    "per_device_eval_batch_size": 5,
    "eval_steps": 3,
    "logging_steps": 3,
    "save_steps": 3,
    "embedding_size": 4,
    "optim": "adamw_torch",
    "bf16": "false",
    "use_cpu": "true",
    "report_to": "none",
    "dataloader_num_workers": 0,
    "dataloader_persistent_workers": "false",
    "dataloader_pin_memory": "false",
    "disable_tqdm": "true",
}
SHAPE = ["--depths", "1", "1", "1", "--hidden_sizes", "8", "16", "24"]


def tiny(folder: Path, config: Path, train: int = 8, **changes: object) -> list[str]:
    """Flags of a configuration on 3 classes of ``train`` images, and 2 to test."""
    pictures = folder / "pictures"
    if not pictures.exists():
        class_folders(pictures, CLASSES, train=train, test=2)
    output = {"files": pictures, "output_dir": folder / "out"}
    return ["--config", str(config), *SHAPE, *flags(**{**TINY, **output, **changes})]


def table(folder: Path, number: int, rates: list[float]) -> Path:
    """A table of the paper with other rates in its grid."""
    content = yaml.safe_load((RESNET50 / f"table_{number}.yaml").read_text())
    content["base"] = str(RESNET50 / content["base"])
    content["grid"]["learning_rate"] = rates
    file = folder / f"table_{number}.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
