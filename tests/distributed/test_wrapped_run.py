"""Two processes in every wrapper that is shipped: the parameters of one plain loop over the union
of the kept rows, and a resumed run that is the whole one."""

import json

import pytest
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD

from sift_trainer import per_sample_loss
from tests.distributed.launch import as_by_accelerate
from tests.distributed.wrapped_run import (
    BUDGETED,
    CLIP,
    KEPT,
    MOMENTUM,
    RATE,
    RESUMED,
    RUNS,
    SAVED,
    STEPS,
    runs_in,
)
from tests.invariants.by_hand import union_loss
from tests.invariants.scale_runs import LENGTH, build

pytestmark = pytest.mark.distributed

# Wrapper: its configuration and its class.
WRAPPERS = {
    "ddp": ("ddp_8gpu", "DistributedDataParallel"),
    "zero1": ("deepspeed_zero1", "DeepSpeedEngine"),
    "zero2": ("deepspeed_zero2", "DeepSpeedEngine"),
    "zero3": ("deepspeed_zero3", "DeepSpeedEngine"),
    "fsdp2": ("fsdp2_8gpu", "FSDPModule"),
}


@pytest.fixture(scope="module", params=WRAPPERS)
def run(request, tmp_path_factory):
    """Name of the wrapper, report of each process, and the parameters of each model."""
    wrapper = request.param
    if wrapper.startswith("zero"):
        pytest.importorskip("deepspeed")
    folder = tmp_path_factory.mktemp(wrapper)
    printed = as_by_accelerate(
        *("--config_file", f"configs/accelerate/{WRAPPERS[wrapper][0]}.yaml"),
        *("--num_processes", 2, "--mixed_precision", "no"),
        *("-m", "tests.distributed.wrapped_run", folder, wrapper),
        timeout=500,
    )
    written = [folder / f"report-{rank}.json" for rank in range(2)]
    assert all(path.is_file() for path in written), printed
    reports = [json.loads(path.read_text()) for path in written]
    models = {
        name: torch.load(folder / f"{name}.pt", weights_only=True) for name in runs_in(wrapper)
    }
    return wrapper, reports, models


def test_the_model_is_wrapped(run):
    wrapper, reports, _ = run
    for report in reports:
        for entry in report.values():
            assert entry["world_size"] == 2
            assert WRAPPERS[wrapper][1] in entry["wrapped_in"]


def test_half_of_the_candidates_is_dropped_on_each_process(run):
    wrapper, reports, _ = run
    for report in reports:
        for name, (_, accumulation, *_) in runs_in(wrapper).items():
            drawn, kept = report[name]["drawn"], report[name]["kept"]
            each, number = KEPT // accumulation, STEPS * accumulation
            assert [len(batch) for batch in drawn] == [2 * each] * number
            assert [len(batch) for batch in kept] == [each] * number
            for candidates, chosen in zip(drawn, kept, strict=True):
                assert all(row in candidates for row in chosen)
            assert report[name]["candidates"] == 2 * 2 * KEPT * STEPS
            assert report[name]["backprop_samples"] == 2 * KEPT * STEPS


def test_processes_draw_different_rows_and_step_together(run):
    """Within each of the two passes over the data that their candidates come from."""
    wrapper, (first, second), _ = run
    for name, (_, accumulation, *_) in runs_in(wrapper).items():
        assert first[name]["steps"] == second[name]["steps"] == STEPS
        for both in zip(first[name]["drawn"], second[name]["drawn"], strict=True):
            for part in (slice(KEPT // accumulation), slice(KEPT // accumulation, None)):
                mine, others = ({tuple(row) for row in drawn[part]} for drawn in both)
                assert len(mine) == len(others) == KEPT // accumulation
                assert not mine & others


def test_the_head_computes_labelled_positions_only(run):
    """Of a run without audits, which compute more rows than a step keeps."""
    for report in run[1]:
        assert 0 < report["dropout"]["head_positions"] < KEPT * LENGTH


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if not run.adamw])
def test_loss_gradient_norm_and_parameters_are_those_of_one_loop_over_the_union(run, name):
    wrapper, reports, models = run
    if name not in runs_in(wrapper):
        return
    (model_name, accumulation, *_), data = RUNS[name], RUNS[name].rows()
    by_ids = {tuple(row["input_ids"].tolist()): row for row in data}
    model = build(model_name).train()
    optimizer = SGD(model.parameters(), momentum=MOMENTUM)
    for step in range(STEPS):
        window = slice(step * accumulation, (step + 1) * accumulation)
        shares = [share for report in reports for share in report[name]["kept"][window]]
        chosen = [[by_ids[tuple(ids)] for ids in share] for share in shares]
        batches = [{k: torch.stack([row[k] for row in few]) for k in few[0]} for few in chosen]
        optimizer.zero_grad()
        loss = union_loss(model, model_name, batches)
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), CLIP)
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.step()
        assert reports[0][name]["losses"][step] == pytest.approx(loss.item(), rel=1e-6)
        assert reports[0][name]["grad_norms"][step] == pytest.approx(norm.item(), rel=1e-6)
    for key, expected in model.state_dict().items():
        assert torch.allclose(models[name][key], expected, rtol=0, atol=1e-7), key


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_is_the_whole_one_bit_for_bit(run, name):
    """The resumed run starts from other parameters: only the checkpoint can make both equal."""
    wrapper, reports, _ = run
    first = SAVED * RUNS[name].accumulation
    for report in reports if name in runs_in(wrapper) else ():
        whole, resumed = report[name], report[f"{name} resumed"]
        assert len(resumed["kept"]) == (STEPS - SAVED) * RUNS[name].accumulation
        for field in ("drawn", "kept", "micro_losses"):
            assert resumed[field] == whole[field][first:], field
        assert resumed["grad_norms"] == whole["grad_norms"]


def test_audits_change_nothing(run):
    wrapper, reports, models = run
    if "audited" not in runs_in(wrapper):
        return
    for report in reports:
        for field in ("drawn", "kept", "micro_losses", "losses", "grad_norms"):
            assert report["audited"][field] == report["bert"][field], field
    for key, value in models["bert"].items():
        assert torch.equal(models["audited"][key], value), key


def test_audits_are_of_all_processes(run):
    """The mean loss of the rows kept in the first step, by hand. The descent is known where a
    process has whole gradients."""
    wrapper, reports, _ = run
    if "audited" not in runs_in(wrapper):
        return
    lines = [report["audited"]["audits"] for report in reports]
    assert [bool(line) for line in lines[0]] == [step % 2 == 0 for step in range(STEPS)]
    data = {tuple(row["input_ids"].tolist()): row for row in RUNS["audited"].rows()}
    model = build("bert_pretraining").eval()
    means = []
    for report in reports:
        rows = [data[tuple(ids)] for ids in report["audited"]["kept"][0]]
        ids = torch.stack([row["input_ids"] for row in rows])
        labels = torch.stack([row["labels"] for row in rows])
        with torch.no_grad():
            logits = model(input_ids=ids).prediction_logits
        means.append(float(per_sample_loss(logits, labels).mean()))
    for line in (lines[0][0], lines[1][0]):
        assert line["sift_audit/kept_loss"] == pytest.approx(sum(means) / 2, rel=1e-5)
        assert 0 <= line["sift_audit/overlap"] <= 1
        assert ("sift_audit/descent_kept" in line) == (wrapper == "ddp")


def test_a_process_without_a_label_makes_the_passes_of_the_others(run):
    """In a sharded wrapper the others would wait for it forever."""
    wrapper, reports, _ = run
    if "gaps" not in runs_in(wrapper):
        return
    data = RUNS["gaps"].rows()
    unlabelled = {tuple(data[number]["input_ids"].tolist()) for number in RUNS["gaps"].unlabelled}
    for step in (0, 2, 4):
        shares = [{tuple(ids) for ids in report["gaps"]["kept"][step]} for report in reports]
        assert not shares[0] & unlabelled
        assert shares[1] <= unlabelled


def test_processes_end_with_the_same_step_by_the_clock_of_the_first(run):
    wrapper, reports, _ = run
    if wrapper not in BUDGETED:
        return
    first, second = (report["budgeted"] for report in reports)
    assert (first["step"], first["stopped"]) == (second["step"], second["stopped"]) == (5, True)
    assert (first["own seconds"], second["own seconds"]) == (5, 0)
