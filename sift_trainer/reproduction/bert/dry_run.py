"""The plan of a run as text, to read before starting it."""

import math

from sift_trainer.arguments import scores_with_model
from sift_trainer.reproduction.bert.plan import Plan
from sift_trainer.selection.schedule import num_skipped


def plan_in_words(plan: Plan) -> str:
    """Aligned lines on samples, epochs, memory and operations, without a newline at the end."""
    lines = [*_samples(plan), *_memory(plan), *_operations(plan)]
    return "\n".join([_title(plan), *(f"  {label:<20}{text}" for label, text in lines)])


def _title(plan: Plan) -> str:
    sifting = plan.sifting
    if not sifting:
        return f"{plan.name}: no sifting"
    rule = plan.args.sift_criterion
    rule += f" at exit {plan.exit_block}" if scores_with_model(plan.args) else ""
    skipped = num_skipped(plan.drawn, plan.kept, plan.args.sift_skip_top)
    chosen = f" after the top {skipped}" if skipped else ""
    if plan.args.sift_selector == "percentile":
        chosen += f" by percentile^{plan.args.sift_beta:g}"
    interval = f", one in {sifting.step}" if sifting.step > 1 else ""
    return (
        f"{plan.name}: {rule} keeps {plan.kept} of {plan.drawn}{chosen} "
        f"in steps {sifting.start:,} to "
        f"{sifting[-1]:,}{interval} ({len(sifting) / plan.steps:.1%} of the run)"
    )


def _samples(plan: Plan) -> list[tuple[str, str]]:
    accumulated = plan.args.gradient_accumulation_steps
    times = f"x {accumulated} accumulated " if accumulated > 1 else ""
    times += f"x {plan.processes} process" + ("es" if plan.processes > 1 else "")
    table = [("samples", "micro-batch", times, f"x {plan.steps:,} steps")]
    for label, samples, steps in (
        ("trained on", plan.kept, plan.steps),
        ("drawn", plan.drawn, plan.steps),
        ("scored", plan.drawn, plan.scored_steps),
    ):
        step = samples * plan.micro_batches
        if steps:
            table.append((label, f"{samples:,}", f"{step:,}", f"{step * steps:,}"))
    widths = [max(len(row[column]) for row in table) for column in (1, 2, 3)]
    lines = [
        (label, "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
        for label, *cells in table
    ]
    if plan.steps_per_epoch is None:
        return [*lines, ("epochs", "not known before the data is prepared")]
    epochs = f"{plan.steps / plan.steps_per_epoch:.2f} of {plan.steps_per_epoch:,} steps"
    return [*lines, ("epochs", f"{epochs}, {plan.training_rows:,} rows")]


def _memory(plan: Plan) -> list[tuple[str, str]]:
    parts = plan.memory
    total = sum(parts.values())
    divisor, unit, digits = (1e9, "GB", 2) if total >= 1e9 else (1e6, "MB", 1)

    def sized(number: float) -> str:
        return f"{number / divisor:.{digits}f}"

    precision = "bf16" if plan.args.bf16 else "fp16" if plan.args.fp16 else "fp32"
    kernels = "GPU" if plan.on_gpu else "CPU"
    lines = [
        ("parameters", f"{parts['weights'] // 4:,}"),
        ("memory per process", f"{sized(total)} {unit}, {precision} on a {kernels}"),
        ("", "= " + " + ".join(f"{name} {sized(part)}" for name, part in parts.items())),
    ]
    if plan.processes > 1:
        # Without the weights of the block that is gathered.
        sharded = total - 4 * parts["weights"] * (1 - 1 / plan.processes)
        over = f"the first three sharded over {plan.processes} (ZeRO-3, FSDP2)"
        lines.append(("", f"{sized(sharded)} {unit} with {over}"))
    return lines


def _operations(plan: Plan) -> list[tuple[str, str]]:
    training, run = plan.training_flops, plan.steps * plan.training_flops
    lines = [("forward + backward", f"{_flop(training)} a step")]
    if not plan.scored_steps:
        return [*lines, ("whole run", _flop(run))]
    scoring, scored = plan.scoring_flops, plan.scored_steps * plan.scoring_flops
    paper = plan.paper_overhead
    hours = "" if paper is None else f" (in the paper's hours: {paper:.1%})"
    text = f"{_flop(scoring)} a step, {scoring / training:.1%} of forward + backward{hours}"
    whole = f"{_flop(run + scored)}, {scored / (run + scored):.1%} of it scoring"
    return [*lines, ("scoring", text), ("whole run", whole)]


def _flop(operations: float) -> str:
    """Three digits and a unit, such as 73.1 TFLOP."""
    exponent = min(7, int(math.log10(operations) // 3))
    return f"{operations / 1000**exponent:.3g} {' kMGTPEZ'[exponent].strip()}FLOP"
