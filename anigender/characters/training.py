"""Training a recogniser: features and an estimator, cross-validated, or a fine-tuned network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backbones import load_backbone
from .estimators import METHODS, preset, searched
from .features import HAND_MADE, Extractor, HandMade, features_of
from .figures import accuracy_figures
from .networks import train_network
from .openset import choose, left_out
from .options import Options
from .packages import needs
from .pictures import Characters, parts_of, read_characters, stranger_files
from .recogniser import Answers, Recogniser, centres, probabilities_of, similarity
from .saving import check_output, save_recogniser

NETWORK = "network"


def train(options: Options, say: Callable[[str], None] = lambda text: None) -> Recogniser:
    """Train and write a recogniser; its figures are in it.

    Args:
        options: what to do.
        say: told what goes on, and the unreadable pictures that are left out.

    Raises:
        ValueError: the data is no set of characters, or too small a one, or the output has a suffix that does not fit
            the method; the message says what to do.
        ImportError: a package of the extra ``characters`` is missing.
    """
    check_output(options.output, options.method == NETWORK)
    learn, test = parts_of(options.data)
    characters = read_characters(learn)
    judged = None if test is None else read_characters(test, characters.names)
    for path, reason in [*characters.unreadable, *(judged.unreadable if judged else [])]:
        say(f"left out: {path}: {reason}")
    say(f"{len(characters)} pictures of {len(characters.names)} characters")
    if options.method == NETWORK:
        recogniser = train_network(options, characters, judged, say)
    else:
        recogniser = _train_estimator(options, characters, judged, say)
    save_recogniser(recogniser, options.output)
    return recogniser


def _train_estimator(
    options: Options, characters: Characters, judged: Characters | None, say: Callable[[str], None]
) -> Recogniser:
    extractor = extractor_of(options.features, options.backbone, options.device)
    x = features_of(characters.files, characters.keys, extractor, options.cache)
    y = np.asarray(characters.labels)
    count = len(characters.names)
    fit = fitter(options, options.features)
    held_out = cross_validated(x, y, characters.groups, fit, options.folds, options.seed)
    figures: dict[str, Any] = {"cross_validation": accuracy_figures(held_out.probabilities, y, characters)}
    strangers = _strangers(options, extractor, x, y, count, fit)
    # What has not been judged says nothing of where a threshold should be.
    right = (held_out.probabilities.sum(1) > 0.5) & (held_out.probabilities.argmax(1) == y)
    open_set = choose(options.open_set, held_out, right, strangers)
    estimator = fit(x, y, characters.groups)
    if options.search:
        figures["found"] = {key: str(value) for key, value in estimator.steps[-1][1].get_params().items()}
    middles = centres(estimator[0].transform(x), y, count)
    recogniser = Recogniser(characters.names, extractor, options.margin, open_set, middles, estimator, figures)
    if judged is not None:
        rows = features_of(judged.files, judged.keys, extractor, options.cache)
        told = probabilities_of(estimator, rows)
        recogniser.figures["test"] = accuracy_figures(told, np.asarray(judged.labels), judged)
    return recogniser


def extractor_of(features: str, backbone: str, device: str = "cpu") -> Extractor:
    """What to look with: ``hand-made``, or ``deep`` through a backbone.

    Raises:
        ValueError: another word, or an unknown backbone.
    """
    if features == HAND_MADE:
        return HandMade()
    if features == "deep":
        return load_backbone(backbone, device)
    raise ValueError(f"features {features!r} are not known; choose {HAND_MADE} or deep")


Fit = Callable[[np.ndarray, np.ndarray, Sequence[int]], Any]


def fitter(options: Options, features: str) -> Fit:
    """A function that fits a new pipeline of the method to features, labels and groups; with a search if asked."""
    if options.method not in METHODS:
        raise ValueError(f"method {options.method!r} is not known; choose one of {', '.join([*METHODS, NETWORK])}")

    def fit(x: np.ndarray, y: np.ndarray, groups: Sequence[int]) -> Any:
        pipeline = preset(options.method, features, options.seed, options.jobs)
        last = pipeline.steps[-1][1]
        if options.method == "knn" and last.n_neighbors > len(x):  # there are not so many neighbours to ask
            last.set_params(n_neighbors=len(x))
        try:
            if not options.search:
                return pipeline.fit(x, y)
            inner = list(folds_of(y, groups, 3, options.seed))
            return searched(options.method, pipeline, inner, options.jobs).fit(x, y).best_estimator_
        except ValueError as error:  # in scikit-learn's own words, which are about arrays
            search = " or leave --search out," if options.search else ""
            raise ValueError(
                f"the method {options.method} cannot learn from {len(x)} pictures of {len(set(y.tolist()))} characters:"
                f" add different pictures of each,{search} or choose another --method ({str(error).splitlines()[0]})"
            ) from error

    return fit


def folds_of(y: np.ndarray, groups: Sequence[int], count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows to learn from and to judge by: alike in characters, near duplicates on one side.

    Fewer than ``count`` where a character has fewer different pictures; at least two.
    """
    different = {label: len({group for group, own in zip(groups, y, strict=True) if own == label}) for label in set(y)}
    count = max(2, min(count, *different.values()))
    splitter = needs("sklearn.model_selection").StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    folds = []
    for learn, judge in splitter.split(y, y, groups):
        # A character all of whose pictures are alike is on one side only: it is not judged, but always learned.
        absent = set(y) - set(y[learn])
        moved = np.isin(y[judge], list(absent))
        folds.append((np.concatenate((learn, judge[moved])), judge[~moved]))
    return folds


def cross_validated(
    x: np.ndarray, y: np.ndarray, groups: Sequence[int], fit: Fit, folds: int = 5, seed: int = 0
) -> Answers:
    """What is said of every picture by an estimator that has not learned from it, nor from its near duplicates.

    A picture that had to be learned from in every fold (see :func:`folds_of`) has probabilities of 0 and a similarity
    of -1.
    """
    count = int(y.max()) + 1
    probabilities, near = np.full((len(y), count), np.nan), np.full(len(y), np.nan)
    near_to = np.asarray(groups)
    divisions = folds_of(y, groups, folds, seed)
    for learn, judge in needs("tqdm").tqdm(divisions, desc="cross-validation", unit="fold", disable=None, leave=False):
        if len(judge):
            answers = _answers(fit(x[learn], y[learn], near_to[learn].tolist()), x[learn], y[learn], x[judge], count)
            probabilities[judge], near[judge] = answers.probabilities, answers.similarity
    seen = ~np.isnan(near)
    probabilities[~seen] = 0
    near[~seen] = -1
    return Answers(probabilities, near)


def _answers(estimator: Any, x: np.ndarray, y: np.ndarray, rows: np.ndarray, count: int) -> Answers:
    middles = centres(estimator[0].transform(x), y, count)
    return Answers(probabilities_of(estimator, rows), similarity(estimator[0].transform(rows), middles))


def _strangers(
    options: Options, extractor: Extractor, x: np.ndarray, y: np.ndarray, count: int, fit: Fit
) -> Answers | None:
    """Answers for faces of nobody known: of a folder that is given, or of each character by those without it."""
    if options.open_set == "none":
        return None
    if options.unknown is not None:
        files, keys = stranger_files(options.unknown)
        rows = features_of(files, keys, extractor, options.cache)
        return _answers(fit(x, y, range(len(y))), x, y, rows, count)

    def answer(learn: np.ndarray, judge: np.ndarray) -> Answers:
        known = {label: i for i, label in enumerate(sorted(set(y[learn].tolist())))}
        own = np.array([known[label] for label in y[learn].tolist()])
        return _answers(fit(x[learn], own, range(len(own))), x[learn], own, x[judge], len(known))

    return left_out(y.tolist(), count, answer)
