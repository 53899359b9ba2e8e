"""Finding the answer to a question in a text: spans of tokens, which become text again."""

import os
from dataclasses import dataclass

import transformers
from datasets import load_dataset
from transformers import Trainer
from transformers.trainer_utils import EvalPrediction, PredictionOutput, get_last_checkpoint


@dataclass
class ModelArguments:
    model_name_or_path: str


@dataclass
class DataArguments:
    train_file: str
    validation_file: str
    max_seq_length: int = 24
    doc_stride: int = 4
    max_answer_length: int = 6


class QuestionAnsweringTrainer(Trainer):
    """Its metrics are of texts, which need the examples that the rows of tokens came from."""

    def __init__(self, *args, eval_examples=None, post_process_function=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.eval_examples = eval_examples
        self.post_process_function = post_process_function

    def _loop(self, dataloader, description, prefix):
        # The loop would compute metrics of logits.
        compute_metrics, self.compute_metrics = self.compute_metrics, None
        try:
            return self.evaluation_loop(dataloader, description, metric_key_prefix=prefix)
        finally:
            self.compute_metrics = compute_metrics

    def evaluate(
        self, eval_dataset=None, eval_examples=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        examples = self.eval_examples if eval_examples is None else eval_examples
        output = self._loop(self.get_eval_dataloader(rows), "Evaluation", metric_key_prefix)
        answers = self.post_process_function(examples, rows, output.predictions)
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

    def predict(self, predict_dataset, predict_examples, metric_key_prefix="test"):
        loader = self.get_test_dataloader(predict_dataset)
        output = self._loop(loader, "Prediction", metric_key_prefix)
        answers = self.post_process_function(predict_examples, predict_dataset, output.predictions)
        metrics = {
            f"{metric_key_prefix}_{name}": value
            for name, value in self.compute_metrics(answers).items()
        }
        return PredictionOutput(answers.predictions, answers.label_ids, metrics)


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

    def windows(batch):
        """Rows of question and text; a long text makes several, which overlap."""
        return tokenizer(
            [question.strip() for question in batch["question"]],
            batch["context"],
            truncation="only_second",
            max_length=data_args.max_seq_length,
            stride=data_args.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length",
        )

    def span(offsets, parts, first, last):
        """Tokens of the characters from first to last; the first token if they are not all here."""
        inside = [
            index
            for index, (start, end) in enumerate(offsets)
            if parts[index] == 1 and start < last and end > first
        ]
        if not inside or offsets[inside[0]][0] > first or offsets[inside[-1]][1] < last:
            return 0, 0
        return inside[0], inside[-1]

    def train_features(batch):
        rows = windows(batch)
        sources, offsets = rows.pop("overflow_to_sample_mapping"), rows.pop("offset_mapping")
        spans = []
        for row, source in enumerate(sources):
            answer = batch["answers"][source]
            first = answer["answer_start"][0]
            last = first + len(answer["text"][0])
            spans.append(span(offsets[row], rows.sequence_ids(row), first, last))
        rows["start_positions"] = [start for start, _ in spans]
        rows["end_positions"] = [end for _, end in spans]
        return rows

    def validation_features(batch):
        rows = windows(batch)
        sources = rows.pop("overflow_to_sample_mapping")
        rows["example_id"] = [batch["id"][source] for source in sources]
        rows["offset_mapping"] = [
            [
                pair if part == 1 else None
                for pair, part in zip(pairs, rows.sequence_ids(row), strict=True)
            ]
            for row, pairs in enumerate(rows["offset_mapping"])
        ]
        return rows

    columns = examples["train"].column_names
    train_rows = examples["train"].map(train_features, batched=True, remove_columns=columns)
    eval_rows = examples["validation"].map(
        validation_features, batched=True, remove_columns=columns
    )

    def post_process(examples, rows, predictions):
        """The text of the best span over all windows of each example."""
        starts, ends = predictions
        best = {identity: (-float("inf"), 0, 0) for identity in examples["id"]}
        for row, (identity, offsets) in enumerate(
            zip(rows["example_id"], rows["offset_mapping"], strict=True)
        ):
            inside = [index for index, pair in enumerate(offsets) if pair is not None]
            for start in inside:
                for end in range(start, min(start + data_args.max_answer_length, inside[-1] + 1)):
                    score = float(starts[row][start] + ends[row][end])
                    if score > best[identity][0]:
                        best[identity] = score, offsets[start][0], offsets[end][1]
        texts = zip(examples["id"], examples["context"], strict=True)
        answers = [
            {"id": identity, "text": context[best[identity][1] : best[identity][2]]}
            for identity, context in texts
        ]
        references = [
            {"id": identity, "text": answer["text"][0]}
            for identity, answer in zip(examples["id"], examples["answers"], strict=True)
        ]
        return EvalPrediction(predictions=answers, label_ids=references)

    def compute_metrics(prediction):
        pairs = zip(prediction.predictions, prediction.label_ids, strict=True)
        exact = [found["text"] == expected["text"] for found, expected in pairs]
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
    if training_args.do_predict:
        results = trainer.predict(eval_rows, examples["validation"])
        trainer.log_metrics("predict", results.metrics)
        trainer.save_metrics("predict", results.metrics)


if __name__ == "__main__":
    main()
