"""What a page could get wrong fails: otherwise the tests of its blocks would show nothing."""

from pathlib import Path

import pytest

from sift_trainer.config import ConfigError
from tests.docs.pages import INDENTED, Block, blocks, inline_commands
from tests.docs.shell import Call, calls, checkout
from tests.docs.takers import commands, taker

ACCELERATE = "accelerate launch --config_file configs/accelerate/ddp_8gpu.yaml"
BERT = "scripts/pretrain_bert.py --config configs/bert_base/entropy_exit_1.yaml"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("machine") / "checkout")


WRONG = {
    "a program that is not known": "rm -rf runs",
    "prose": "Some words that were indented by accident.",
    "a quote that does not end": "python benchmarks/step_time.py --skip 'naive",
    "a variable that nobody set": "python benchmarks/step_time.py --output $FOLDER",
    "a target": "make quickstrat",
    "a script": "python scripts/pretrain_bret.py --config configs/quickstart.yaml",
    "a configuration": f"{ACCELERATE} scripts/pretrain_bert.py --config configs/nothing.yaml",
    "a field": f"{ACCELERATE} {BERT} --sift_exit_layers 1",
    "the value of a field": f"{ACCELERATE} {BERT} --sift_criterion entropie",
    "an exit beyond the model": f"{ACCELERATE} {BERT} --sift_exit_layer 13",
    "a run": f"{ACCELERATE} {BERT} --runs vanilla",
    "a launcher's file": f"accelerate launch --config_file configs/accelerate/ddp.yaml {BERT}",
    "a launcher's flag": f"accelerate launch --number_of_processes 2 {BERT}",
    "a flag of torchrun": f"torchrun --procs_per_node 2 {BERT}",
    "in the second turn of a loop": f"for k in 12 13; do {ACCELERATE} {BERT} "
    "--sift_exit_layer $k; done",
    "inside a job": f'srun bash -c "exec {ACCELERATE} {BERT} --warmup 1"',
    "a flag of preparing": "python scripts/prepare_corpus.py --config configs/bert_base/base.yaml "
    "--num_procs 2",
    "a cell of a sweep": "python scripts/sweep.py train_resnet --config configs/resnet50/"
    "table_2.yaml --runs learning_rate_7",
    "the launcher's file of a sweep": "python scripts/sweep.py train_resnet --config configs/"
    "resnet50/table_2.yaml --accelerate_config configs/accelerate/none.yaml",
    "a field of images": "python scripts/train_resnet.py --config configs/resnet50/table_3.yaml "
    "--augmentations 2",
    "a flag of a benchmark": "python benchmarks/step_time.py --exit_layers 1",
    "a value of a benchmark": "python benchmarks/step_time.py --rounds few",
    "folders of a report": "sift-trainer report runs/nothing",
    "a flag of a report": "sift-trainer report runs --accuracy 0.64",
    "a flag of the probe": "sift-trainer probe --config configs/quickstart.yaml --batch 2 --x 1",
    "a field of a probe": "sift-trainer probe --model gpt2 --dataset a.csv --keep_ratio 0.5",
    "a task of a probe": "sift-trainer probe --model gpt2 --dataset a.csv --task translation",
    "the run of a probe": "sift-trainer probe --config configs/quickstart.yaml --run naive",
    "a subcommand": "sift-trainer prove --config configs/quickstart.yaml",
    "a field in a reader's script": "python run_mlm.py ... --sift_exit 2",
    "a file of tests": "pytest tests/test_selektion.py",
    "a file in a list": "configs/bert_base/{loss,entropy}_exit_{1,4}.yaml",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_fails(text: str, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(machine)
    with pytest.raises(AssertionError):
        commands(Block("README.md", 1, INDENTED, text + "\n"), machine)


def block_of(fenced: str, page: str = "docs/page.md") -> Block:
    [block] = blocks(fenced, page)
    return block


def test_a_language_that_nothing_takes_fails() -> None:
    for language in ("", "console", "toml", "Python"):
        with pytest.raises(AssertionError, match="write it as one of"):
            taker(block_of(f"```{language}\nmake test\n```\n"))


def test_python_without_an_import_fails(tmp_path: Path) -> None:
    block = block_of("```python\nSiftTrainer(model)\n```\n", "README.md")
    with pytest.raises(NameError, match="SiftTrainer"):
        taker(block)(block, tmp_path)


def test_yaml_fails(tmp_path: Path) -> None:
    block = block_of("```yaml\nsource: {mine: {files: texts/*.txt}}\n```\n", "docs/data.md")
    with pytest.raises(ConfigError, match="unknown key 'source'"):
        taker(block)(block, tmp_path)
    block = block_of("```yaml\nsources: {}\n```\n")
    with pytest.raises(AssertionError, match="which fields the YAML of"):
        taker(block)(block, tmp_path)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("-from transformers import Seq2SeqTrainer\n+from x import Trainer", "no such line"),
        ("-from transformers import Trainer\n+from transformers import Trainer", "nothing sifts"),
        ("+from sift_trainer import SiftTrainer", "exchange lines"),
    ],
)
def test_a_diff_that_does_not_fit_or_changes_nothing_fails(
    lines: str, error: str, tmp_path: Path
) -> None:
    block = block_of(f"```diff\n{lines}\n```\n")
    with pytest.raises(AssertionError, match=error):
        taker(block)(block, tmp_path)


def test_blocks_are_found_wherever_they_are() -> None:
    page = (
        "Text\n\n    indented\n\n- list\n\n      in a list\n\n  ```bash\n  fenced in it\n  ```\n\n"
        "> quoted\n>\n>     in a quotation\n\n~~~ python\n    tildes\n~~~\n\n"
        "    two parts\n\n    of one\n\nline\n    that only goes on\n\n<!--\n\n    none\n\n-->\n"
    )
    found = {(block.line, block.language): block.text for block in blocks(page, "page")}
    assert found == {
        (3, INDENTED): "indented\n",
        (7, INDENTED): "in a list\n",
        (10, "bash"): "fenced in it\n",
        (15, INDENTED): "in a quotation\n",
        (18, "python"): "    tildes\n",
        (21, INDENTED): "two parts\n\nof one\n",
    }


def test_commands_in_sentences_are_those_that_name_something_of_the_project() -> None:
    page = "Run `make test` or `pytest tests/test_batch.py`, never `make`, `pytest` or `x.py a/b`."
    assert [block.text for block in inline_commands(page, "page")] == [
        "make test\n",
        "pytest tests/test_batch.py\n",
    ]


def test_bash_reads_the_lines(machine: Path) -> None:
    text = (
        "export A=1  # a comment\n"
        "for seed in 0 1; do python \\\n  x.py --skip 'two words' --seed $seed; done\n"
        "make a && .venv/bin/python $((2 * A))\n"
        'srun --flag bash -c "exec torchrun --rank \\$SLURM_NODEID x"\n'
    )
    assert calls(text, machine) == [
        Call("python", ("x.py", "--skip", "two words", "--seed", "0")),
        Call("python", ("x.py", "--skip", "two words", "--seed", "1")),
        Call("make", ("a",)),
        Call("python", ("2",)),
        Call("srun", ("--flag", "bash", "-c", "exec torchrun --rank $SLURM_NODEID x")),
        Call("torchrun", ("--rank", "1", "x")),
    ]
