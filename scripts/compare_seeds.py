"""Tables and figure over one configuration's runs with several seeds.

scripts/compare_seeds.py runs/bert_tiny/seed_* --output docs/reproduction
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from sift_trainer.checkpoints.whole_files import write_json, write_text
from sift_trainer.plots import plot_accuracy
from sift_trainer.run_log import machine
from sift_trainer.seeds import mean_run, read_seeds, spread_table
from sift_trainer.tables import REFERENCES, table

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", help="output_dir of each seed")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix")
    flags = parser.parse_args()
    try:
        found = read_seeds(flags.folders)
        names = sorted(found, key=lambda name: (name not in REFERENCES, name))
        groups = {name: found[name] for name in names}
        means = [mean_run(name, runs) for name, runs in groups.items()]
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")
    text = f"{spread_table(groups)}\nMeans of {len(flags.folders)} seeds:\n\n"
    text += table(means)
    print(text)
    write_text(Path(f"{flags.output}.md"), text)
    seeds = {name: [asdict(run) for run in runs] for name, runs in groups.items()}
    write_json(Path(f"{flags.output}.json"), {"machine": machine(), "seeds": seeds})
    plot_accuracy(means, Path(f"{flags.output}.png"))
