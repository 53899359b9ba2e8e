"""Which images a run trains on, and what is usual for each data set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DataSetDefaults(NamedTuple):
    """What belongs to a data set.

    Attributes:
        hub: id of its Parquet files on the Hugging Face hub.
        classes: how many there are; None: as many as are found.
        image_size: height and width that the model is given, in pixels.
        augmentation: ``crop_flip`` (He et al., 2016, section 4.2, images of one size) or
            ``resized_crop`` (Szegedy et al., 2015, photographs of any size).
        mean: of the channels red, green and blue, where 1 is full.
        std: likewise.
    """

    hub: str | None
    classes: int | None
    image_column: str
    label_column: str
    test_split: str
    image_size: int
    augmentation: Literal["crop_flip", "resized_crop"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


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
    "food101": DataSetDefaults(
        hub="ethz/food101",
        classes=101,
        image_column="image",
        label_column="label",
        test_split="validation",  # the hub's name for the official test set
        image_size=224,
        augmentation="resized_crop",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "generic": DataSetDefaults(
        hub=None,
        classes=None,
        image_column="image",
        label_column="label",
        test_split="test",
        image_size=224,
        augmentation="resized_crop",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
}


@dataclass
class ImageArguments:
    """Which images are classified, and how they reach the model.

    What is left unset is the data set's own, see `DATA_SETS`.

    Raises:
        ValueError: at construction, naming the field, its value and what it accepts.
    """

    dataset: str = field(
        default="cifar100",
        metadata={"help": f"{', '.join(DATA_SETS)}; generic: any classes, photographs of any size"},
    )
    files: str | None = field(
        default=None,
        metadata={
            "help": "Folder with Parquet files, train/ and test/ class folders, Food-101's "
            "images/ and meta/, or CIFAR-100's pickles; unset: read from the hub."
        },
    )
    hub: str | None = field(
        default=None, metadata={"help": "Id of another data set on the hub, without code."}
    )
    revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit on the hub."}
    )
    train_split: str = field(default="train", metadata={"help": "Its name on the hub."})
    test_split: str | None = field(default=None, metadata={"help": "Its name on the hub."})
    image_column: str | None = field(default=None, metadata={"help": "Of tables."})
    label_column: str | None = field(
        default=None, metadata={"help": "Of tables and pickles, such as coarse_label."}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width in pixels that the model is given."}
    )
    max_images_per_class: int | None = field(
        default=None,
        metadata={"help": "For trials: so many of each class in each split, chosen by a seed."},
    )
    subset_seed: int = field(default=0, metadata={"help": "Of the choice above."})
    augmentation_seed: int = field(default=0, metadata={"help": "Of crops and flips."})
    skip_unreadable: bool = field(
        default=False,
        metadata={"help": "Go on without images that cannot be read, counting them."},
    )
    image_cache_dir: str | None = field(
        default=None, metadata={"help": "Where tables are kept as Arrow files; unset: datasets'."}
    )

    def __post_init__(self) -> None:
        if self.dataset not in DATA_SETS:
            raise ValueError(f"dataset={self.dataset!r}: must be one of {', '.join(DATA_SETS)}")
        if self.files is not None and self.hub is not None:
            raise ValueError(
                f"files={self.files!r} and hub={self.hub!r}: give one of them, and leave the other"
            )
        if self.files is None and self.setting("hub") is None:
            raise ValueError(
                "dataset='generic' needs files or hub, such as files: pictures, which has train/ "
                "and test/ with a folder per class"
            )
        if self.files is not None and not Path(self.files).expanduser().exists():
            raise ValueError(
                f"files={self.files!r} does not exist; give a folder, or leave it unset to read "
                f"hub: {self.setting('hub')}"
            )
        size = self.setting("image_size")
        if type(size) is not int or size < 8:
            raise ValueError(f"image_size={size!r}: must be 8 or more pixels, such as 224")
        if self.dataset == "cifar100" and size != 32:
            raise ValueError(
                f"image_size={size}: the images of cifar100 have 32 and are not resized; leave it "
                "unset"
            )
        if self.max_images_per_class is not None and self.max_images_per_class < 1:
            raise ValueError(
                f"max_images_per_class={self.max_images_per_class}: must be 1 or more, such as 20"
            )
        for name in ("subset_seed", "augmentation_seed"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative, such as 0")
        if not isinstance(self.skip_unreadable, bool):
            raise ValueError(f"skip_unreadable={self.skip_unreadable!r}: must be true or false")

    @property
    def defaults(self) -> DataSetDefaults:
        """What belongs to the data set."""
        return DATA_SETS[self.dataset]

    def setting(self, name: str) -> Any:
        """The value of a field, or of the data set where it is unset."""
        value = getattr(self, name)
        return getattr(self.defaults, name) if value is None else value
