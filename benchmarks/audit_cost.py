"""What an audit takes: its seconds over those of a sifted step, of one run that audits often
towards other candidates, and one towards rows of the evaluation set.

python benchmarks/audit_cost.py --hidden 256 --layers 8 --vocabulary 8000
"""

import sys
import tempfile
from typing import Any

import torch
from bert_steps import MaskedRows, MaskedText, bert_parser, build, labels_per_row, resolve
from measured_steps import describe_machine, spread, table, write_result

from sift_trainer import SiftTrainer, SiftTrainingArguments
from sift_trainer.arguments import HELD_OUT
from sift_trainer.measuring.timing import PHASES

COLUMNS = ("audit_seconds", "step_seconds", "audit_steps", "scoring_share", "overhead")
EVERY = 2


def measure(options: Any, held_out: str) -> dict[str, Any]:
    """One audit a round, in front of two steps; the first is a warm-up."""
    per_row = labels_per_row(options)
    model, _ = build(options)
    with tempfile.TemporaryDirectory() as folder:
        args = SiftTrainingArguments(
            folder,
            use_cpu=options.device == "cpu",
            bf16=options.bf16,
            max_steps=EVERY * (options.rounds + 1),
            per_device_train_batch_size=options.batch_size,
            sift_warmup_steps=0,
            sift_cooldown_steps=0,
            sift_audit_steps=EVERY,
            sift_held_out=held_out,
            logging_steps=EVERY,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        data = MaskedText(8 * options.batch_size, options.length, options.vocabulary, per_row)
        trainer = SiftTrainer(
            model, args, MaskedRows(per_row), train_dataset=data, eval_dataset=data
        )
        trainer.train()
    lines = [line for line in trainer.state.log_history if "sift_audit/seconds" in line][1:]
    audits = [line["sift_audit/seconds"] for line in lines]
    steps = [sum(line[f"sift/{phase}_seconds"] for phase in PHASES) / EVERY for line in lines]
    ratios = [audit / step for audit, step in zip(audits, steps, strict=True)]
    shares = [line["sift_audit/scoring_share"] for line in lines]
    return {
        "name": f"by loss, exit 1, towards {held_out}",
        "rounds": len(lines),
        **spread("audit_seconds", audits),
        **spread("step_seconds", steps),
        **spread("audit_steps", ratios),
        **spread("scoring_share", shares),
        **spread("overhead", [line["sift/overhead"] for line in lines]),
    }


def main(argv: list[str]) -> None:
    options = resolve(bert_parser(__doc__.split("\n")[0], "audit_cost.json").parse_args(argv))
    print(describe_machine(), torch.get_num_threads(), "threads", flush=True)
    rows = [measure(options, held_out) for held_out in HELD_OUT]
    write_result(options.output, options, ["benchmarks/audit_cost.py", *argv], audits=rows)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    main(sys.argv[1:])
