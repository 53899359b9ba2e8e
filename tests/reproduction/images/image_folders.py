"""Images of three classes in folders, loaded without a bar."""

from pathlib import Path
from typing import Any

import pytest

from sift_trainer.reproduction.images import ImageArguments, ImageData, load_images
from tests.reproduction.images.pictures import class_folders

NAMES = ["apple", "baby", "bear"]


def load(**settings: Any) -> ImageData:
    settings = {key: str(v) if isinstance(v, Path) else v for key, v in settings.items()}
    return load_images(ImageArguments(**settings), progress=False)


def generic(root: Path, **settings: Any) -> ImageData:
    return load(dataset="generic", files=root, image_size=16, **settings)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pictures", NAMES)
