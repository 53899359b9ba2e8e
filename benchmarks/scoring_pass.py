"""The scoring pass alone, against the forward and backward of the kept rows and its own operations.

In every round one turn of training steps gives the seconds of forward and backward, then each
variant scores a batch of candidates that lies on the device, as the trainer does between fetching
and training: *share* is the one over the other. *Counted* is the same share by counting operations,
the floor of a machine that spends all its time on them. Entropy is held to the loss of the same
exit and fraction in the same round.

    python benchmarks/scoring_pass.py     # CPU: length 128, 16 candidates; GPU: 512, 64, bf16
    python benchmarks/scoring_pass.py --layers 2 --hidden 128 --rounds 3 --exits 1
"""

import argparse
import sys
from typing import Any

from bert_steps import bert_parser, build, deadline, resolve, scoring_of, shape, stepper
from measured_steps import (
    Arm,
    Stepper,
    Turn,
    Turns,
    describe_machine,
    spread,
    table,
    take_turns,
    timed,
    write_result,
)

from sift_trainer.reproduction.bert.flops import forward_backward

TRAINING = "training step"
KEEP_RATIO = 0.5
COLUMNS = ("score_seconds", "share", "counted_share", "share_over_counted", "entropy_over_loss")


def variants(exits: list[int], fractions: list[float]) -> list[Arm]:
    """By exit, fraction and criterion; and what scoring is where nothing is left out."""
    chosen = []
    for k in exits:
        for fraction in fractions:
            for criterion in ("loss", "entropy"):
                chosen.append(_variant(k, criterion, fraction))
    return chosen + [_variant(exits[0], name, 1.0, naive=True) for name in ("loss", "entropy")]


def _variant(k: int, criterion: str, fraction: float, naive: bool = False) -> Arm:
    settings = {
        "sift_exit_layer": k,
        "sift_criterion": criterion,
        "sift_token_fraction": fraction,
        "sift_warmup_steps": 0,
        "sift_cooldown_steps": 0,
    }
    if naive:
        settings["sift_masked_only_head"] = False
    name = f"{'naive, ' if naive else ''}{criterion}, exit {k}"
    return Arm(name if fraction == 1 else f"{name}, {fraction:g} of the labels", settings)


def score(taking: Stepper, steps: int) -> dict[str, float]:
    """Seconds of scoring one batch, the mean over ``steps`` consecutive times."""
    trainer = taking.trainer
    device = trainer.args.device
    batch = trainer._prepare_inputs(taking.window()[0][0])

    def once() -> None:
        trainer._select(batch, 0)  # no public method scores without training

    if device.type == "cuda":
        once()
    return {"score": timed(device, lambda: [once() for _ in range(steps)]) / steps}


def measure(options: argparse.Namespace, report: Any = lambda rows: None) -> list[dict[str, Any]]:
    """One row per variant: medians over the rounds."""
    model, optimizer = build(options)
    chosen = variants(options.exits, options.fractions)
    trained = Arm(
        TRAINING,
        {"sift_exit_layer": options.exits[0], "sift_warmup_steps": 0, "sift_cooldown_steps": 0},
    )

    def training() -> Turn:
        taking = stepper(trained, model, optimizer, options)
        return lambda: taking.turn(options.steps)

    def scoring(arm: Arm) -> Turn:
        taking = stepper(arm, model, optimizer, options)
        taking.step()  # asks the model what a scoring pass has to know
        return lambda: score(taking, options.steps)

    def rows(turns: Turns) -> list[dict[str, Any]]:
        return [_row(arm, turns, options) for arm in chosen]

    starts = {TRAINING: training}
    starts |= {arm.name: lambda arm=arm: scoring(arm) for arm in chosen}
    turns = take_turns(
        starts,
        options.rounds,
        options.warmup,
        deadline(options),
        after_round=lambda turns: report(rows(turns)),
    )
    return rows(turns)


def _row(arm: Arm, turns: Turns, options: argparse.Namespace) -> dict[str, Any]:
    row: dict[str, Any] = {"name": arm.name, "settings": arm.settings}
    error = turns.errors.get(arm.name) or turns.errors.get(TRAINING)
    if error:
        return {**row, "error": error}
    rounds = [numbers for numbers in turns.rounds if {arm.name, TRAINING} <= numbers.keys()]
    row["rounds"] = len(rounds)
    row |= spread("score_seconds", [numbers[arm.name]["score"] for numbers in rounds])
    shares = [
        numbers[arm.name]["score"] / (numbers[TRAINING]["forward"] + numbers[TRAINING]["backward"])
        for numbers in rounds
    ]
    # What is trained is the same for all variants: head and last block on labelled positions.
    trained = forward_backward(shape(options), "labelled_block")
    floor = scoring_of(arm, options) / KEEP_RATIO / trained
    row |= spread("share", shares) | {"counted_share": floor}
    row["share_over_counted"] = row["share"] / floor
    loss = arm.name.replace("entropy", "loss")
    compared = [n[arm.name]["score"] / n[loss]["score"] for n in rounds if loss in n]
    if loss != arm.name and compared:
        row |= spread("entropy_over_loss", compared)
    return row


def parse(argv: list[str]) -> argparse.Namespace:
    parser = bert_parser(__doc__.split("\n")[0], "scoring_pass.json")
    parser.add_argument("--exits", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--fractions", type=float, nargs="+", default=[1.0, 0.25])
    return resolve(parser.parse_args(argv))


def main(argv: list[str]) -> None:
    options = parse(argv)
    print(describe_machine(), flush=True)
    command = ["benchmarks/scoring_pass.py", *argv]

    def report(rows: list[dict[str, Any]]) -> None:
        write_result(options.output, options, command, variants=rows)

    rows = measure(options, report)
    report(rows)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    main(sys.argv[1:])
