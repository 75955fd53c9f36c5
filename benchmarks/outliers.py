"""What trusting outliers less is worth: a small net trained with some labels flipped, with and without it.

It begins from the net that verifies heads, which has seen no gender, and so learns in minutes what would take hours
from nothing. Labels are flipped by picture, the same share of each gender's, with a seed. Both arms see the same
pictures in the same order for the same number of steps, and what is judged is the moving average at the end, whatever
it reaches. The judging pictures' labels stay. Each finished run is one line of the output, so that a stopped benchmark
goes on where it was:

    python -m benchmarks.outliers --data DIR --output outliers.jsonl
    python -m benchmarks.outliers --output outliers.jsonl --table
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anigender.classify import Classifier
from anigender.classify.gendernet import GenderNet
from anigender.detect.verifier import build
from anigender.evaluate.metrics import fit_calibration, gender_figures
from anigender.train.crops.augment import CACHE_MARGIN, CACHE_SIZE
from anigender.train.crops.crops import Crops, labelled_crops
from anigender.train.gender.file import MEAN, STD, calibrated
from anigender.train.gender.learning import Learning, Plan, judged
from anigender.train.gender.outliers import trust
from anigender.train.gender.recipes import Recipe
from anigender.train.gender.trainable import Trainable
from anigender.weights import ASSETS, read_weights

SHARES, SEEDS = (0.2, 0.0, 0.1, 0.05), (0, 1, 2)  # what tells most comes first
SIZE, FRAMED = 40, 1.2  # the input in pixels, and in head sides
KEPT, SHOWN = 56, 1.6  # the crops that it is cut from
RECIPE = Recipe("adamw", 2e-3, "one-cycle", epochs=8, batch=64, weight_decay=0.05)
DISTRUSTED = 0.5


def shrunk(crops: Crops) -> Crops:
    """The same crops in memory, smaller: the net sees no more of them."""
    edge = round(CACHE_SIZE * (1 - SHOWN / CACHE_MARGIN) / 2)
    parts = []
    for start in range(0, len(crops), 256):
        whole = crops.pixels[start : start + 256][:, :, edge:-edge, edge:-edge].float()
        parts.append(torch.nn.functional.interpolate(whole, (KEPT, KEPT), mode="area").round().to(torch.uint8))
    return replace(crops, pixels=torch.cat(parts), margin=SHOWN)


def flipped(labels: Tensor, share: float, seed: int) -> Tensor:
    """Which labels ``[N]`` become wrong: this share of each gender's."""
    rng = np.random.default_rng((seed, round(share * 1000)))
    wrong = torch.zeros(len(labels), dtype=torch.bool)
    for gender in (0, 1):
        mine = (labels == gender).nonzero()[:, 0].numpy()
        wrong[rng.permutation(mine)[: round(share * len(mine))]] = True
    return wrong


def fresh() -> Trainable:
    """A small net of the embedded one's kind that has seen heads, but no gender."""
    metadata = {"input_size": SIZE, "margin": FRAMED, "mean": ",".join([str(MEAN)] * 3)}
    metadata |= {"std": ",".join([str(STD)] * 3), "output": "logits"}
    named = {f"anigender.{name}": str(value) for name, value in metadata.items()}
    verifier = build(read_weights(ASSETS / "head.safetensors")[0])
    assert verifier is not None, "the embedded detector has one"
    state = verifier.state_dict()
    net = GenderNet(verifier.widths, [1] * len(verifier.widths))
    for old, new in (("stages.0.0.", "stem."), ("stages.0.1.", "stages.0.0.")):
        state = {name.replace(old, new): value for name, value in state.items()}
    left = net.load_state_dict({name: value for name, value in state.items() if "fc" not in name}, strict=False)
    assert not left.unexpected_keys and all("fc" in n or "num_batches" in n for n in left.missing_keys)
    return Trainable(Classifier(net.to(memory_format=torch.channels_last), named), named)


def run(learn: Crops, judge: Crops, share: float, seed: int, reweight: bool) -> dict[str, Any]:
    """One training; its figures."""
    started = time.monotonic(), time.process_time()
    torch.manual_seed(seed)
    wrong = flipped(learn.labels, share, seed)
    noisy = replace(learn, labels=torch.where(wrong, 1 - learn.labels, learn.labels))
    plan = Plan(RECIPE, seed, strength=0.3, mixed=0.0, reweight=reweight, workers=0)
    learning = Learning(fresh(), noisy, plan)
    for _ in range(RECIPE.epochs):
        learning.run_epoch()
    logits = judged(learning.learned, judge)
    # Calibrated on what it is judged by, in both arms alike: only the confidences depend on it, and the leaning.
    found = {
        "plain": gender_figures(logits.softmax(1), judge.labels).as_dict(),
        "calibrated": gender_figures(
            calibrated(logits, *fit_calibration(logits, judge.labels)), judge.labels
        ).as_dict(),
    }
    distrusted = trust(learning.history, noisy.labels) < DISTRUSTED
    hits = int((distrusted & wrong).sum())
    return {
        "share": share,
        "seed": seed,
        "reweight": reweight,
        **found,
        "wrong": int(wrong.sum()),
        "suspects": int(distrusted.sum()),
        "suspects_by_gender": [int((distrusted & (noisy.labels == gender)).sum()) for gender in (0, 1)],
        "hits": hits,
        "seconds": round(time.monotonic() - started[0], 1),
        "processor_seconds": round(time.process_time() - started[1], 1),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Means over seeds, in Markdown."""
    by: dict[tuple[float, bool], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by[row["share"], row["reweight"]].append(row)
    lines = [
        "| flipped | re-weighted | balanced accuracy (seeds) | women | men | suspects | flipped among them | found |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def mean(own: list[dict[str, Any]], name: str) -> float:
        return statistics.mean(row["plain"][name] for row in own)

    for (share, reweight), own in sorted(by.items()):
        own = sorted(own, key=lambda row: row["seed"])
        seeds = ", ".join(f"{row['plain']['balanced_accuracy']:.3f}" for row in own)
        suspects, hits, wrong = (sum(row[name] for row in own) for name in ("suspects", "hits", "wrong"))
        lines.append(
            f"| {share:.0%} | {'yes' if reweight else 'no'} | {mean(own, 'balanced_accuracy'):.3f} ({seeds}) | "
            f"{mean(own, 'female_recall'):.3f} | {mean(own, 'male_recall'):.3f} | {suspects / len(own):.0f} | "
            f"{hits / suspects if suspects else 0:.0%} | {f'{hits / wrong:.0%}' if wrong else '–'} |"
        )
    return lines


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--output", type=Path, required=True, help="the lines; head crops are kept beside it")
    parser.add_argument("--seed", type=int, nargs="+", default=SEEDS, help="only these, for processes side by side")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.output.read_text().splitlines()] if given.output.is_file() else []
    if not given.table:
        if given.data is None:
            parser.error("--data is needed to run")
        learn, judge = (shrunk(crops) for crops in labelled_crops(given.data, "auto", given.output.parent))
        done = {(row["share"], row["seed"], row["reweight"]) for row in rows}
        for seed in given.seed:
            for share in SHARES:
                for reweight in (False, True):
                    if (share, seed, reweight) not in done:
                        rows.append(run(learn, judge, share, seed, reweight))
                        with given.output.open("a") as stream:
                            stream.write(json.dumps(rows[-1]) + "\n")
                        print(rows[-1], file=sys.stderr, flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
