"""Fine-tuning on pairs of sentences from CSV files, and predictions for a file without labels."""

import os
from dataclasses import dataclass

import transformers
from datasets import load_dataset
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint


@dataclass
class ModelArguments:
    model_name_or_path: str


@dataclass
class DataArguments:
    train_file: str
    validation_file: str
    test_file: str
    max_seq_length: int = 32
    pad_to_max_length: bool = False


def main() -> None:
    parser = transformers.HfArgumentParser(
        (ModelArguments, DataArguments, transformers.TrainingArguments)
    )
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    transformers.set_seed(training_args.seed)
    last_checkpoint = None
    if training_args.do_train and os.path.isdir(training_args.output_dir):
        last_checkpoint = get_last_checkpoint(training_args.output_dir)

    files = {
        "train": data_args.train_file,
        "validation": data_args.validation_file,
        "test": data_args.test_file,
    }
    pairs = load_dataset("csv", data_files=files)
    names = sorted(pairs["train"].unique("label"))
    config = transformers.AutoConfig.from_pretrained(
        model_args.model_name_or_path,
        num_labels=len(names),
        label2id={name: number for number, name in enumerate(names)},
        id2label=dict(enumerate(names)),
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_args.model_name_or_path, config=config
    )

    def preprocess(examples):
        padding = "max_length" if data_args.pad_to_max_length else False
        encoded = tokenizer(
            examples["sentence1"],
            examples["sentence2"],
            padding=padding,
            max_length=data_args.max_seq_length,
            truncation=True,
        )
        encoded["labels"] = [config.label2id.get(name, -1) for name in examples["label"]]
        return encoded

    rows = pairs.map(preprocess, batched=True, remove_columns=["label"])

    def compute_metrics(prediction):
        hits = prediction.predictions.argmax(axis=1) == prediction.label_ids
        return {"accuracy": float(hits.mean())}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        data_collator=transformers.default_data_collator if data_args.pad_to_max_length else None,
        compute_metrics=compute_metrics,
    )
    if training_args.do_train:
        result = trainer.train(
            resume_from_checkpoint=training_args.resume_from_checkpoint or last_checkpoint
        )
        metrics = {**result.metrics, "train_samples": len(rows["train"])}
        trainer.save_model()
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate(eval_dataset=rows["validation"])
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if training_args.do_predict:
        unlabelled = rows["test"].remove_columns("labels")
        predictions = trainer.predict(unlabelled, metric_key_prefix="predict").predictions
        if trainer.is_world_process_zero():
            with open(os.path.join(training_args.output_dir, "predictions.tsv"), "w") as file:
                for number, label in enumerate(predictions.argmax(axis=1).tolist()):
                    file.write(f"{number}\t{config.id2label[label]}\n")
    trainer.create_model_card(tasks="text-classification", dataset="pairs of sentences")


if __name__ == "__main__":
    main()
