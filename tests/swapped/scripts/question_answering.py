"""Finding the answer to a question in a text: spans of tokens, which become text again."""

import os
from dataclasses import dataclass

import transformers
from datasets import load_dataset
from transformers import Trainer
from transformers.trainer_utils import EvalPrediction, get_last_checkpoint


@dataclass
class ModelArguments:
    model_name_or_path: str


@dataclass
class DataArguments:
    train_file: str
    validation_file: str
    max_seq_length: int = 48


class QuestionAnsweringTrainer(Trainer):
    """Its metrics are of texts, which need the examples that the rows of tokens came from."""

    def __init__(self, *args, eval_examples=None, post_process_function=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.eval_examples = eval_examples
        self.post_process_function = post_process_function

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        # The loop would compute metrics of logits.
        compute_metrics, self.compute_metrics = self.compute_metrics, None
        try:
            output = self.evaluation_loop(
                self.get_eval_dataloader(rows), "Evaluation", metric_key_prefix=metric_key_prefix
            )
        finally:
            self.compute_metrics = compute_metrics
        answers = self.post_process_function(self.eval_examples, rows, output.predictions)
        metrics = {
            f"{metric_key_prefix}_{name}": value
            for name, value in self.compute_metrics(answers).items()
        }
        metrics.update(output.metrics)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


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
    examples = load_dataset("json", data_files=files, field="data")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(
        model_args.model_name_or_path
    )

    def tokenized(example):
        row = tokenizer(
            example["question"].strip(),
            example["context"],
            truncation="only_second",
            max_length=data_args.max_seq_length,
            return_offsets_mapping=True,
            padding="max_length",
        )
        parts = row.sequence_ids(0)
        offsets = [
            pair if part == 1 else [0, 0]
            for pair, part in zip(row["offset_mapping"], parts, strict=True)
        ]
        return {**row, "offset_mapping": offsets}

    def train_features(example):
        row = tokenized(example)
        first = example["answers"]["answer_start"][0]
        last = first + len(example["answers"]["text"][0])
        inside = [
            index
            for index, (start, end) in enumerate(row.pop("offset_mapping"))
            if start < last and end > first
        ] or [0]  # the first token if the answer was cut off
        return {**row, "start_positions": inside[0], "end_positions": inside[-1]}

    columns = examples["train"].column_names
    train_rows = examples["train"].map(train_features, remove_columns=columns)
    eval_rows = examples["validation"].map(tokenized, remove_columns=columns)

    def post_process(examples, rows, predictions):
        """The text between the likeliest start and the likeliest end."""
        starts, ends = (logits.argmax(axis=1).tolist() for logits in predictions)
        answers = [
            context[offsets[start][0] : offsets[end][1]]
            for context, offsets, start, end in zip(
                examples["context"], rows["offset_mapping"], starts, ends, strict=True
            )
        ]
        references = [answer["text"][0] for answer in examples["answers"]]
        return EvalPrediction(predictions=answers, label_ids=references)

    def compute_metrics(prediction):
        pairs = zip(prediction.predictions, prediction.label_ids, strict=True)
        exact = [found == expected for found, expected in pairs]
        return {"exact_match": 100 * sum(exact) / len(exact)}

    trainer = QuestionAnsweringTrainer(
        model=model,
        args=training_args,
        train_dataset=train_rows,
        eval_dataset=eval_rows,
        eval_examples=examples["validation"],
        processing_class=tokenizer,
        data_collator=transformers.default_data_collator,
        post_process_function=post_process,
        compute_metrics=compute_metrics,
    )
    if training_args.do_train:
        result = trainer.train(
            resume_from_checkpoint=training_args.resume_from_checkpoint or last_checkpoint
        )
        trainer.save_model()
        metrics = {**result.metrics, "train_samples": len(train_rows)}
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)


if __name__ == "__main__":
    main()
