"""The tables of the two studies of character recognition, anew on other pictures.

``python -m benchmarks.characters DATA`` where DATA holds ``idols3`` (``train`` and ``test``, three characters that look
alike) and ``vtubers7`` (seven characters). Prints tables and writes JSON.

The studies' pictures are not public, so figures stand side by side that were measured on different pictures: they say
which methods are good, not which study is better. Nor are ImageNet's weights used here: deep features come from this
project's own identity net, or from a checkpoint that is named with ``--checkpoint``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anigender.characters.estimators import METHODS
from anigender.characters.features import HAND_MADE, features_of
from anigender.characters.figures import accuracy_figures
from anigender.characters.networks import EPOCHS, fine_tune, predicted, start
from anigender.characters.options import Options
from anigender.characters.pictures import Characters, read_characters
from anigender.characters.recogniser import probabilities_of
from anigender.characters.training import (
    cross_validated,
    extractor_of,
    fitter,
    folds_of,
)
from anigender.files import atomic_write_text

# Test accuracy on seven characters of the study's own.
THEIRS = {
    HAND_MADE: {
        "logistic": 0.756,
        "lda": 0.420,
        "knn": 0.563,
        "cart": 0.605,
        "forest": 0.748,
        "bayes": 0.513,
        "svm": 0.782,
    },
    "deep": {
        "logistic": 0.941,
        "lda": 0.765,
        "knn": 0.832,
        "cart": 0.563,
        "forest": 0.882,
        "bayes": 0.824,
        "svm": 0.908,
    },
}
THEIR_NETWORKS = "0.969 to 0.987"
THEIR_IDOLS = {2: "0.929 (13 of 14)", 3: "0.800 (12 of 15), then 18 of 18"}
TWO = ("nishikino_maki", "sakurauchi_riko")


def only(characters: Characters, names: Sequence[str]) -> Characters:
    """The pictures of some of the characters."""
    part = characters.only([i for i, label in enumerate(characters.labels) if characters.names[label] in names])
    labels = [list(names).index(characters.names[label]) for label in part.labels]
    return replace(part, names=tuple(names), labels=labels)


def over_seeds(characters: Characters, answer: Callable[[int], np.ndarray], seeds: int) -> dict[str, Any]:
    """Cross-validated figures: the mean accuracy over seeds of the folds, and the widest ends of their intervals."""
    y = np.asarray(characters.labels)
    runs = [accuracy_figures(answer(seed), y, characters, seed) for seed in range(seeds)]
    return {
        "accuracy": round(float(np.mean([run["accuracy"] for run in runs])), 4),
        "interval": [min(run["interval"][0] for run in runs), max(run["interval"][1] for run in runs)],
        "seeds": [run["accuracy"] for run in runs],
        "recall": runs[0]["recall"],
    }


def network_answers(
    characters: Characters, backbone: str, seed: int, epochs: int, folds: int, batch: int
) -> tuple[np.ndarray, int]:
    """Cross-validated probabilities of fine-tuned networks, zeros where a fold was left out; and the folds run."""
    y = np.asarray(characters.labels)
    told = np.zeros((len(y), len(characters.names)))
    chosen = folds_of(y, characters.groups, 5, seed)[:folds]
    for learn, judge in chosen:
        net = start(backbone, len(characters.names), "cpu", seed)
        fine_tune(net, characters, learn.tolist(), epochs, batch, seed)
        told[judge] = predicted(net, characters.files, judge.tolist())[1]
    return told, len(chosen)


def text(figures: dict[str, Any]) -> str:
    """A figure with its interval."""
    low, high = figures["interval"]
    return f"{figures['accuracy']:.3f} ({low:.3f} to {high:.3f})"


def show(title: str, rows: list[list[str]]) -> None:
    """A table on the terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that holds idols3 and vtubers7")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--checkpoint", default="identity", help="where deep features come from: a name or a file")
    parser.add_argument("--cache", type=Path, help="keep features in this folder")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3, help="divisions into five folds")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the fine-tuned networks")
    parser.add_argument("--batch", type=int, default=8, help="of the fine-tuned networks")
    parser.add_argument(
        "--network-folds", type=int, default=5, help="how many of the five folds to fine-tune for; 0 for none"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    began = time.monotonic()
    result: dict[str, Any] = {"backbone": options.checkpoint, "seeds": options.seeds}
    vtubers = read_characters(options.data / "vtubers7")
    learn = read_characters(options.data / "idols3" / "train")
    test = read_characters(options.data / "idols3" / "test", learn.names)

    def fit_of(method: str, kind: str) -> Any:
        return fitter(Options(Path(), Path(), method, jobs=options.jobs), kind)

    result["idols3"] = {}
    rows = [["characters", "theirs", "ours, their test pictures", "ours, five folds of the training pictures"]]
    for names in (TWO, learn.names):
        own, judged = only(learn, names), only(test, names)
        extractor = extractor_of("deep", options.checkpoint)
        x = features_of(own.files, own.keys, extractor, options.cache, quiet=True)
        z = features_of(judged.files, judged.keys, extractor, options.cache, quiet=True)
        y, fit = np.asarray(own.labels), fit_of("logistic", "deep")
        tested = accuracy_figures(probabilities_of(fit(x, y, own.groups), z), np.asarray(judged.labels), judged)
        crossed = over_seeds(
            own,
            lambda seed, o=own, x=x, y=y, f=fit: cross_validated(x, y, o.groups, f, 5, seed).probabilities,
            options.seeds,
        )
        result["idols3"][str(len(names))] = {"test": tested, "cross_validation": crossed}
        right = round(tested["accuracy"] * tested["pictures"])
        told = f"{text(tested)}, {right} of {tested['pictures']}"
        rows.append([", ".join(names), THEIR_IDOLS[len(names)], told, text(crossed)])
    show("Look-alike idols, deep features and logistic regression", rows)

    y = np.asarray(vtubers.labels)
    result["vtubers7"] = {}
    rows = [["estimator", "hand-made: theirs", "ours", "deep: theirs", "ours"]]
    tables = {
        kind: features_of(
            vtubers.files, vtubers.keys, extractor_of(kind, options.checkpoint), options.cache, quiet=True
        )
        for kind in (HAND_MADE, "deep")
    }
    for method in options.methods:
        row = [method]
        for kind, x in tables.items():
            fit = fit_of(method, kind)
            figures = over_seeds(
                vtubers,
                lambda seed, x=x, f=fit: cross_validated(x, y, vtubers.groups, f, 5, seed).probabilities,
                options.seeds,
            )
            result["vtubers7"].setdefault(method, {})[kind] = figures
            theirs = THEIRS[kind].get(method)
            row += ["-" if theirs is None else f"{theirs:.3f}", text(figures)]
        rows.append(row)
        print("measured: " + ", ".join(row), flush=True)
    show("Seven characters with 110 pictures each, five-fold cross-validation", rows)

    if options.network_folds > 0:
        told, folds = network_answers(
            vtubers, options.checkpoint, 0, options.epochs, options.network_folds, options.batch
        )
        figures = accuracy_figures(told, y, vtubers) | {"folds": folds, "epochs": options.epochs}
        result["vtubers7"]["network"] = figures
        table = [["", "theirs (ResNets)", f"ours ({options.checkpoint}, {folds} of 5 folds)"]]
        show("Fine-tuned networks, sgd-step", [*table, ["accuracy", THEIR_NETWORKS, text(figures)]])
    result["seconds"] = round(time.monotonic() - began, 1)
    print("\nTheir figures are on their own pictures, ours on others: compare the methods, not the numbers alone.")
    if options.output is not None:
        atomic_write_text(options.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
