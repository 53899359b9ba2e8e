"""Which images a run trains on, and the defaults of each data set."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DataSetDefaults(NamedTuple):
    """Properties of a data set; mean and std are of red, green and blue, 1 is full intensity."""

    hub: str | None
    classes: int | None  # None: any number
    image_column: str
    label_column: str
    test_split: str
    image_size: int = 224
    # He et al. (2016, section 4.2), images of one size; Szegedy et al. (2015), of any size
    augmentation: Literal["crop_flip", "resized_crop"] = "resized_crop"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


DATA_SETS = {
    "cifar100": DataSetDefaults(
        hub="uoft-cs/cifar100",
        classes=100,
        image_column="img",
        label_column="fine_label",
        test_split="test",
        image_size=32,
        augmentation="crop_flip",
        mean=(0.5071, 0.4865, 0.4409),  # of its 50,000 training images
        std=(0.2673, 0.2564, 0.2762),
    ),
    # The hub's name of the official test set is "validation".
    "food101": DataSetDefaults("ethz/food101", 101, "image", "label", "validation"),
    "generic": DataSetDefaults(None, None, "image", "label", "test"),
}


@dataclass
class ImageArguments:
    """Which images are classified, and how they reach the model.

    A field that is None has the data set's own value, see `DATA_SETS`.

    Raises:
        ValueError: at construction; names the field, its value and a value that works.
    """

    dataset: str = field(
        default="cifar100",
        metadata={"help": f"{', '.join(DATA_SETS)}; generic: any classes, photographs of any size"},
    )
    files: str | None = field(
        default=None,
        metadata={
            "help": "Folder with Parquet files, train/ and test/ class folders, or Food-101's "
            "images/ and meta/; unset: read from the hub."
        },
    )
    hub: str | None = field(default=None, metadata={"help": "Id of another data set on the hub."})
    revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit on the hub."}
    )
    test_split: str | None = field(default=None, metadata={"help": "Of tables."})
    image_column: str | None = field(default=None, metadata={"help": "Of tables."})
    label_column: str | None = field(
        default=None, metadata={"help": "Of tables, such as coarse_label."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width of the model's input in pixels."}
    )
    max_images_per_class: int | None = field(
        default=None,
        metadata={"help": "For trials: a random choice of so many of each class and split."},
    )
    augmentation_seed: int = field(default=0, metadata={"help": "Of crops and flips."})
    image_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder for tables as Arrow files; unset: datasets' own."}
    )

    def __post_init__(self) -> None:
        if self.dataset not in DATA_SETS:
            raise ValueError(f"dataset={self.dataset!r} must be one of {', '.join(DATA_SETS)}")
        if self.files is not None and self.hub is not None:
            raise ValueError(f"files={self.files!r} and hub={self.hub!r}: set only one of them")
        if self.files is None and self.setting("hub") is None:
            raise ValueError("dataset='generic' needs files or hub, such as files: pictures")
        if self.max_images_per_class is not None and self.max_images_per_class < 1:
            raise ValueError(f"max_images_per_class={self.max_images_per_class} must be 1 or more")

    @property
    def defaults(self) -> DataSetDefaults:
        return DATA_SETS[self.dataset]

    def setting(self, name: str) -> Any:
        """The value of a field, or the data set's own where it is None."""
        value = getattr(self, name)
        return getattr(self.defaults, name) if value is None else value
