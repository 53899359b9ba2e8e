"""Fine-tuning on folders of images, one for each class."""

import os
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from datasets import load_dataset
from PIL import Image
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint


@dataclass
class ModelArguments:
    model_name_or_path: str


@dataclass
class DataArguments:
    data_dir: str
    image_column_name: str = "image"
    label_column_name: str = "label"


def main() -> None:
    parser = transformers.HfArgumentParser(
        (ModelArguments, DataArguments, transformers.TrainingArguments)
    )
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    transformers.set_seed(training_args.seed)
    last_checkpoint = None
    if training_args.do_train and os.path.isdir(training_args.output_dir):
        last_checkpoint = get_last_checkpoint(training_args.output_dir)

    images = load_dataset("imagefolder", data_dir=data_args.data_dir)
    names = images["train"].features[data_args.label_column_name].names
    config = transformers.AutoConfig.from_pretrained(
        model_args.model_name_or_path,
        num_labels=len(names),
        label2id={name: number for number, name in enumerate(names)},
        id2label=dict(enumerate(names)),
    )
    model = transformers.AutoModelForImageClassification.from_pretrained(
        model_args.model_name_or_path, config=config, ignore_mismatched_sizes=True
    )
    size = (config.image_size, config.image_size)

    def pixels(image: Image.Image, flip: bool) -> torch.Tensor:
        values = np.asarray(image.convert("RGB").resize(size), dtype=np.float32) / 127.5 - 1
        return torch.from_numpy(values[:, ::-1].copy() if flip else values).permute(2, 0, 1)

    def train_transforms(examples):
        examples["pixel_values"] = [
            pixels(image, flip=bool(torch.rand(()) < 0.5))
            for image in examples[data_args.image_column_name]
        ]
        return examples

    def eval_transforms(examples):
        examples["pixel_values"] = [
            pixels(image, flip=False) for image in examples[data_args.image_column_name]
        ]
        return examples

    images["train"].set_transform(train_transforms)
    images["test"].set_transform(eval_transforms)

    def collate(examples):
        return {
            "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
            "labels": torch.tensor([example[data_args.label_column_name] for example in examples]),
        }

    def compute_metrics(prediction):
        return {
            "accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())
        }

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=images["train"] if training_args.do_train else None,
        eval_dataset=images["test"] if training_args.do_eval else None,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    if training_args.do_train:
        result = trainer.train(
            resume_from_checkpoint=training_args.resume_from_checkpoint or last_checkpoint
        )
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    trainer.create_model_card(tasks="image-classification", dataset="folders of images")


if __name__ == "__main__":
    main()
