"""Runs tasks x rules x seeds x budgets in processes; those in the results are not repeated."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import yaml
from huggingface_hub import snapshot_download
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sift_trainer import SiftArguments
from sift_trainer.measuring.machine import machine
from tasks import training as by
from tasks.data import FIXED, TUNING_SEED, Row, best_rate, cached, load, read


def parse(argv: list[str]) -> argparse.Namespace:
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


def definitions(o: argparse.Namespace) -> tuple[Row, Row, dict[str, str]]:
    """The tasks with their defaults, the chosen rules, and where the models are."""
    told, rules = (yaml.safe_load((o.definitions / f"{n}.yaml").open()) for n in ("tasks", "rules"))
    usual, tasks = told["defaults"], told["tasks"]
    for name, own in tasks.items():
        tasks[name] = {**usual, **own, "sift": usual["sift"] | own.get("sift", {})}
    rules = {name: rules[name] for name in ["stock", *(o.rules or rules)]}
    for rule in rules.values():
        resolve_name(rule.pop("register", "builtins:dict"))()
        SiftArguments(**rule)  # a rule that cannot be run is an error at once
    return tasks, rules, told["models"] | dict(each.split("=", 1) for each in o.model)


def phases(o: argparse.Namespace, tasks: Row, rules: Row) -> Iterator[list[Row]]:
    """Tuning, costs and runs: lists of jobs. A job is what its line in the results begins with."""

    tuned_as = {name: task.pop("tuned_as", name) for name, task in tasks.items()}
    rates = {name: task.pop("rates") for name, task in tasks.items()}

    def job(name: str, rule: str, rate: float, **more: float | str) -> Row:
        settings = {"task": tasks[name], "sift": tasks[name]["sift"] | rules[rule]}
        told = {"kind": "run", "task": name, "rule": rule, "learning_rate": rate}
        return {**told, **more, "settings": settings}

    tuned = {"seed": TUNING_SEED, "budget": 1.0, "equal": "updates"}
    yield [job(name, "stock", r, **tuned) for name in o.tune for r in rates[name]]
    names = o.tasks or list(tasks)
    costs = [cost_of(job(name, rule, 0.0)) for name in names for rule in rules]
    yield [e for n, e in enumerate(costs) if e["settings"]["sift"] and e not in costs[:n]]
    lines = read(o.results)
    best = {n: best_rate(lines, tasks[tuned_as[n]], rates[tuned_as[n]]) for n in names}
    told = [{"seed": s, "budget": b, "equal": o.equal} for s in o.seeds for b in o.budget]
    yield [job(name, rule, best[name], **each) for each in told for name in names for rule in rules]


def cost_of(job: Row) -> Row:
    """The job that measures what the scoring of a run costs; with no ``sift``, if nothing."""
    settings = {**job["settings"], "sift": by.scoring_of(job["settings"]["sift"])}
    return {"kind": "cost", "task": job["task"], "settings": settings}


def work(o: argparse.Namespace, models: dict[str, str], job: Row) -> None:
    """Do a job in this process and add its line to the results."""
    task, sift = job["settings"]["task"], job["settings"]["sift"]
    name, lines, is_folder = models[task["model"]], read(o.results), Path(o.data).is_dir()
    folder = o.data if is_folder else snapshot_download(o.data, repo_type="dataset")
    tokenizer = AutoTokenizer.from_pretrained(**by.source(name))
    data = load(task, Path(folder), o.cache, tokenizer, job.get("seed", FIXED))
    if column := sift.get("sift_reference_column"):
        stock, rate = {**task["sift"], "sift_keep_ratio": 1.0}, job["learning_rate"]
        make = partial(by.reference_losses, task, name, data, stock, rate)
        losses = cached(o.cache, [task, rate], make).tolist()
        data.train = [{**r, column: loss} for r, loss in zip(data.train, losses, strict=True)]
    if job["kind"] == "cost":
        line = {**job, **by.measure_cost(task, name, data, sift)}
    else:
        budget, wanted = max(1, round(job["budget"] * task["updates"])), cost_of(job)
        cost, rest = {"scoring": 0.0}, {name: job[name] for name in ("seed", "learning_rate")}
        if job["equal"] == "cost" and wanted["settings"]["sift"]:
            cost = next(line for line in lines if wanted.items() <= line.items())
        updates = by.affordable(budget, sift, cost["scoring"])
        trainer = by.train(task, name, data, sift, max_steps=updates, **rest)
        if (paid := by.paid(trainer, cost)) < 0.98 * budget - 2:  # a shut gate left some
            updates = round(updates * budget / paid)
            trainer = by.train(task, name, data, sift, max_steps=updates, **rest)
        line = {**job, "updates": updates, "paid": by.paid(trainer, cost)}
        line |= by.measured(trainer, task, data)
    o.results.parent.mkdir(parents=True, exist_ok=True)
    with o.results.open("ab") as stream:  # at once, and apart from what a killed process began
        stream.write(f"\n{json.dumps({**line, 'machine': machine()})}\n".encode())


def main(argv: list[str]) -> None:
    o = parse(argv)
    tasks, rules, models = definitions(o)
    if o.one:
        return work(o, models, o.one)
    command = [sys.executable, __file__, *argv, "--one"]
    for jobs in phases(o, tasks, rules):
        lines = read(o.results)
        left = [job for job in jobs if not any(job.items() <= line.items() for line in lines)]
        print(f"{len(left)} jobs to do", flush=True)
        for job in left if o.jobs == 0 else ():
            work(o, models, job)
        with ThreadPoolExecutor(max(1, o.jobs)) as pool:
            calls = [[*command, json.dumps(job)] for job in left if o.jobs]
            if any(list(pool.map(subprocess.call, calls))):
                raise SystemExit("a job failed, see above; the same command goes on")


if __name__ == "__main__":
    main(sys.argv[1:])
