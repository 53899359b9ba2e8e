"""Runs tasks x rules x seeds x budgets, each in a process of its own. It can be killed and started
again: what the results file has is not repeated."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import torch
import yaml
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sift_trainer import SiftArguments
from sift_trainer.measuring.machine import machine
from tasks import TUNING_SEED, Line, best_rate, read
from tasks.data import FIXED, cached, load
from tasks.models import source
from tasks.training import affordable, measure_cost, measured, reference_losses, scoring_of, train


def parse(argv: Sequence[str]) -> argparse.Namespace:
    add = (parser := argparse.ArgumentParser(description=__doc__)).add_argument
    add("--data", required=True, help="folder, or data set of the hub, with the files of the tasks")
    add("--model", action="append", default=[], help="NAME=PATH of a model instead of the hub's")
    add("--tasks", nargs="+", help="default: all")
    add("--rules", nargs="+", help="beside stock; default: all")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--budget", nargs="+", type=float, default=[1.0], help="shares of the updates of a task")
    add("--equal", choices=["cost", "updates"], default="cost")
    add("--tune", nargs="+", default=[], metavar="TASK", help="try the learning rates on stock")
    add("--jobs", type=int, default=1, help="processes side by side; 0: work in this process")
    add("--results", type=Path, default=Path("runs/tasks/results.jsonl"))
    add("--cache", type=Path, default=Path("runs/tasks/cache"))
    add("--definitions", type=Path, default=Path(__file__).parent, help="folder of the YAML files")
    add("--one", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@cache
def register(name: str) -> None:
    """Call ``module:function``, once."""
    module, _, function = name.partition(":")
    getattr(import_module(module), function)()


def definitions(o: argparse.Namespace) -> tuple[Line, Line, dict[str, str]]:
    """The tasks with their defaults, the chosen rules, and where the models are."""
    told, rules = (yaml.safe_load((o.definitions / f"{n}.yaml").open()) for n in ("tasks", "rules"))
    usual, tasks = told["defaults"], told["tasks"]
    for name, own in tasks.items():
        tasks[name] = {**usual, **own, "sift": usual["sift"] | own.get("sift", {})}
    rules = {name: rules[name] for name in ["stock", *(o.rules or rules)]}
    for name, rule in rules.items():
        register(rule.pop("register", "builtins:dict"))
        try:
            SiftArguments(**rule)
        except (TypeError, ValueError) as error:
            raise SystemExit(f"rule {name}: {error}") from error
    return tasks, rules, told["models"] | dict(each.split("=", 1) for each in o.model)


def phases(o: argparse.Namespace, tasks: Line, rules: Line) -> Iterator[list[Line]]:
    """Tuning, costs and runs: lists of jobs. A job is what its line in the results begins with."""

    def run(task: str, rule: str, seed: int, budget: float, equal: str, rate: float) -> Line:
        line = {"kind": "run", "task": task, "rule": rule, "seed": seed, "budget": budget}
        settings = {"task": tasks[task], "sift": tasks[task]["sift"] | rules[rule]}
        return {**line, "equal": equal, "learning_rate": rate, "settings": settings}

    pairs = [(name, rate) for name in o.tune for rate in tasks[name]["rates"]]
    yield [run(name, "stock", TUNING_SEED, 1.0, "updates", rate) for name, rate in pairs]
    names, lines = o.tasks or list(tasks), read(o.results)
    yield [
        cost_job(name, tasks[name], tasks[name]["sift"] | r)
        for name in names
        for r in rules.values()
    ]
    each = [(s, b, name) for s in o.seeds for b in o.budget for name in names]
    best = {name: best_rate(lines, tasks[name]) for name in names}
    yield [run(name, r, s, b, o.equal, best[name]) for s, b, name in each for r in rules]


def cost_job(name: str, task: Line, sift: Line) -> Line | None:
    """The job that measures what scoring by these settings costs; None if it costs nothing."""
    scoring = scoring_of(sift)
    settings = {"task": task, "sift": scoring}
    return {"kind": "cost", "task": name, "settings": settings} if scoring else None


def known(job: Line, lines: list[Line]) -> Line | None:
    """The line of a finished job."""
    return next((line for line in lines if job.items() <= line.items()), None)


def work(o: argparse.Namespace, models: dict[str, str], job: Line) -> int:
    """Do a job in this process and add its line to the results."""
    torch.set_num_threads(1)
    task, sift = job["settings"]["task"], job["settings"]["sift"]
    name, lines, folder = models[task["model"]], read(o.results), Path(o.data)
    if not folder.is_dir():
        folder = Path(snapshot_download(o.data, repo_type="dataset"))
    images = task["kind"] == "images"
    tokenizer = None if images else AutoTokenizer.from_pretrained(**source(name))
    data = load(task, folder, o.cache, tokenizer, job.get("seed", FIXED))
    if column := sift.get("sift_reference_column"):
        stock, rate = {**task["sift"], "sift_keep_ratio": 1.0}, best_rate(lines, task)
        make = partial(reference_losses, task, name, data, stock, rate)
        losses = cached(o.cache, [task, rate], make).tolist()
        data.train = [{**r, column: loss} for r, loss in zip(data.train, losses, strict=True)]
    if job["kind"] == "cost":
        line = {**job, **measure_cost(task, name, data, sift)}
    else:
        updates, cost = max(1, round(job["budget"] * task["updates"])), None
        if job["equal"] == "cost" and (wanted := cost_job(job["task"], task, sift)):
            cost = known(wanted, lines)
            updates = affordable(updates, sift, cost["scoring"], cost["learning"])
        protocol = {name: job[name] for name in ("seed", "learning_rate")}
        trainer = train(task, name, data, sift, max_steps=updates, **protocol)
        line = {**job, "updates": updates, **measured(trainer, task, data)}
    o.results.parent.mkdir(parents=True, exist_ok=True)
    with o.results.open("ab") as stream:  # at once, and apart from what a killed process began
        stream.write(f"\n{json.dumps({**line, 'machine': machine()})}\n".encode())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    o = parse(argv)
    tasks, rules, models = definitions(o)
    if o.one:
        return work(o, models, o.one)

    def start(job: Line) -> int:
        command = [sys.executable, __file__, *argv, "--one", json.dumps(job)]
        return subprocess.run(command).returncode

    for jobs in phases(o, tasks, rules):
        lines, left = read(o.results), []
        left = [job for at, job in enumerate(jobs) if job and job not in jobs[:at]]
        left = [job for job in left if not known(job, lines)]
        print(f"{len(left)} jobs", flush=True)
        with ThreadPoolExecutor(max(1, o.jobs)) as pool:
            if any(list(pool.map(start if o.jobs else partial(work, o, models), left))):
                raise SystemExit("a job failed, see above; the same command goes on")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
