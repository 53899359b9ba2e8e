"""Criteria over vocabulary logits: all rows at once, and in parts that stay in the cache.

Fastest and median seconds of alternating calls, and the ratio of the parts to the whole.

    python benchmarks/criteria.py
"""

import argparse
import statistics
import time

import torch

from sift_trainer.scoring.criteria import cross_entropy, entropy
from sift_trainer.scoring.logit_pass import criterion_values


def entropy_by_entr(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Shannon entropy as it is first written down, with a logarithm of each probability."""
    return torch.special.entr(torch.softmax(logits.float(), dim=-1)).sum(dim=-1)


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=304)
    parser.add_argument("--vocabulary", type=int, default=30522)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    logits = 2 * torch.randn(options.rows, options.vocabulary, device=device)
    targets = torch.randint(options.vocabulary, (options.rows,), device=device)
    ways = {
        "loss, whole": lambda: cross_entropy(logits, targets),
        "loss, in parts": lambda: criterion_values(cross_entropy, logits, targets),
        "entropy by entr, whole": lambda: entropy_by_entr(logits, targets),
        "entropy, whole": lambda: entropy(logits, targets),
        "entropy, in parts": lambda: criterion_values(entropy, logits, targets),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for _ in range(options.rounds + 1):
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                if device == "cuda":
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - begin)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, taken in seconds.items():
        del taken[0]  # of a compiler, or of a first touch of memory
        print(f"{name:<24}{1e3 * min(taken):>9.1f} ms{1e3 * statistics.median(taken):>9.1f} ms")
    return seconds


if __name__ == "__main__":
    main()
