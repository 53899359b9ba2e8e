"""Going on with a causal language model on JSON lines with a text each."""

import math
import os
from dataclasses import dataclass
from itertools import chain

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
    block_size: int = 24


def main() -> None:
    parser = transformers.HfArgumentParser(
        (ModelArguments, DataArguments, transformers.TrainingArguments)
    )
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    transformers.set_seed(training_args.seed)
    last_checkpoint = None
    if training_args.do_train and os.path.isdir(training_args.output_dir):
        last_checkpoint = get_last_checkpoint(training_args.output_dir)

    files = {"train": data_args.train_file, "validation": data_args.validation_file}
    texts = load_dataset("json", data_files=files)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer))

    def group_texts(examples):
        joined = {name: list(chain(*lists)) for name, lists in examples.items()}
        size = data_args.block_size
        total = len(joined["input_ids"]) // size * size
        blocks = {
            name: [values[start : start + size] for start in range(0, total, size)]
            for name, values in joined.items()
        }
        return {**blocks, "labels": [list(block) for block in blocks["input_ids"]]}

    with training_args.main_process_first(desc="tokenizing"):
        columns = texts["train"].column_names
        tokens = texts.map(
            lambda examples: tokenizer(examples["text"]), batched=True, remove_columns=columns
        )
        blocks = tokens.map(group_texts, batched=True)

    def predicted_tokens(logits, labels):
        return (logits[0] if isinstance(logits, tuple) else logits).argmax(dim=-1)

    def compute_metrics(prediction):
        hits = prediction.predictions[:, :-1] == prediction.label_ids[:, 1:]
        return {"accuracy": float(hits.mean())}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=blocks["train"] if training_args.do_train else None,
        eval_dataset=blocks["validation"] if training_args.do_eval else None,
        processing_class=tokenizer,
        data_collator=transformers.default_data_collator,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=predicted_tokens,
    )
    if training_args.do_train:
        result = trainer.train(
            resume_from_checkpoint=training_args.resume_from_checkpoint or last_checkpoint
        )
        trainer.save_model()
        metrics = {**result.metrics, "train_samples": len(blocks["train"])}
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
