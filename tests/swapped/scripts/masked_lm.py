"""Masked language modelling from scratch on a text file, a line a document."""

import math
import os
import sys
from dataclasses import dataclass
from itertools import chain

import transformers
from datasets import load_dataset
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint


@dataclass
class ModelArguments:
    config_name: str
    tokenizer_name: str


@dataclass
class DataArguments:
    train_file: str
    validation_file: str
    max_seq_length: int = 32
    mlm_probability: float = 0.15


def main() -> None:
    parser = transformers.HfArgumentParser(
        (ModelArguments, DataArguments, transformers.TrainingArguments)
    )
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(sys.argv[1])
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    transformers.set_seed(training_args.seed)
    last_checkpoint = None
    if training_args.do_train and os.path.isdir(training_args.output_dir):
        last_checkpoint = get_last_checkpoint(training_args.output_dir)

    files = {"train": data_args.train_file, "validation": data_args.validation_file}
    texts = load_dataset("text", data_files=files)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_args.tokenizer_name)
    config = transformers.AutoConfig.from_pretrained(model_args.config_name)
    model = transformers.AutoModelForMaskedLM.from_config(config)

    def tokenize(examples):
        return tokenizer(examples["text"], return_special_tokens_mask=True)

    def group_texts(examples):
        """Documents one after the other, cut into rows of equal length; the rest is dropped."""
        size = data_args.max_seq_length
        joined = {name: list(chain(*lists)) for name, lists in examples.items()}
        total = len(joined["input_ids"]) // size * size
        return {
            name: [values[start : start + size] for start in range(0, total, size)]
            for name, values in joined.items()
        }

    tokens = texts.map(tokenize, batched=True, remove_columns=["text"])
    rows = tokens.map(group_texts, batched=True)

    def predicted_tokens(logits, labels):
        return (logits[0] if isinstance(logits, tuple) else logits).argmax(dim=-1)

    def compute_metrics(prediction):
        masked = prediction.label_ids != -100
        hits = prediction.predictions[masked] == prediction.label_ids[masked]
        return {"accuracy": float(hits.mean())}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=data_args.mlm_probability
        ),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=predicted_tokens,
    )
    if training_args.do_train:
        result = trainer.train(
            resume_from_checkpoint=training_args.resume_from_checkpoint or last_checkpoint
        )
        trainer.save_model()
        metrics = {**result.metrics, "train_samples": len(rows["train"])}
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        metrics["perplexity"] = math.exp(metrics["eval_loss"])
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)


if __name__ == "__main__":
    main()
