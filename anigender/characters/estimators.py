"""The estimators of scikit-learn that recognise characters, with the hyper-parameters that were published for them.

From "Recognize Animation Characters with Machine Learning" (features by hand) and "Transfer Learning for Anime
Characters" (features of a net); what those do not name is scikit-learn's default.
"""

from __future__ import annotations

from typing import Any

from .packages import needs

KINDS = ("hand-made", "deep")
METHODS = {
    "logistic": "logistic regression",
    "lda": "linear discriminant analysis",
    "knn": "k nearest neighbours",
    "cart": "a decision tree",
    "forest": "a random forest",
    "bayes": "Gaussian naive Bayes",
    "svm": "a support vector machine with a polynomial kernel of degree 4",
    "svm-cubic": "the same of degree 3 (published for hand-made features)",
}
SEARCHED: dict[str, dict[str, list[Any]]] = {
    "logistic": {"C": [0.003, 0.01, 0.03, 0.1, 0.3, 1.1, 4.5]},
    "lda": {"solver": ["lsqr"], "shrinkage": [None, "auto", 0.1, 0.3, 0.6, 0.9]},
    "knn": {"n_neighbors": [1, 3, 5, 6, 8, 12], "metric": ["euclidean", "cosine"], "weights": ["uniform", "distance"]},
    "cart": {"max_depth": [None, 5, 10, 20], "min_samples_leaf": [1, 2, 5]},
    "forest": {"max_features": ["sqrt", "log2", 0.1], "min_samples_leaf": [1, 2]},
    "bayes": {"var_smoothing": [1e-9, 1e-6, 1e-3, 1e-2, 0.1, 1.0]},
    "svm": {"kernel": ["poly", "rbf", "linear"], "degree": [2, 3, 4], "C": [0.1, 1.0, 4.0, 11.0]},
    "svm-cubic": {"kernel": ["poly"], "degree": [3], "coef0": [0.0, 1.0], "C": [0.1, 1.0, 4.0, 11.0, 30.0]},
}


def preset(method: str, kind: str, seed: int = 0, jobs: int = 1) -> Any:
    """An untrained pipeline of scaling and estimator, with the published hyper-parameters.

    Args:
        method: one of :data:`METHODS`.
        kind: of the features, one of :data:`KINDS`.
        seed: of what draws lots.
        jobs: processes that may work at once.

    Raises:
        ValueError: an unknown method or kind.
        ImportError: scikit-learn is not installed.
    """
    if method not in METHODS or kind not in KINDS:
        raise ValueError(
            f"method {method!r} on {kind!r} features is not known; choose one of {', '.join(METHODS)}, "
            f"and of {', '.join(KINDS)}"
        )
    # Every feature to 0-1, as published: a polynomial of degree 4 of features around zero fits nothing but noise.
    scale = needs("sklearn.preprocessing").MinMaxScaler()
    return needs("sklearn.pipeline").make_pipeline(scale, _estimator(method, kind == "hand-made", seed, jobs))


def _estimator(method: str, by_hand: bool, seed: int, jobs: int) -> Any:
    if method == "logistic":  # with the l2 penalty that is the default
        return needs("sklearn.linear_model").LogisticRegression(C=4.5 if by_hand else 1.1, max_iter=2000)
    if method == "lda":
        return needs("sklearn.discriminant_analysis").LinearDiscriminantAnalysis()
    if method == "knn":  # brute force: trees of neighbours are no faster in so many dimensions, nor can they be saved
        neighbours = needs("sklearn.neighbors")
        return neighbours.KNeighborsClassifier(6 if by_hand else 8, algorithm="brute")
    if method == "cart":
        return needs("sklearn.tree").DecisionTreeClassifier(random_state=seed)
    if method == "forest":
        forest = needs("sklearn.ensemble").RandomForestClassifier
        return forest(3000 if by_hand else 500, criterion="gini", n_jobs=jobs, random_state=seed)
    if method == "bayes":
        return needs("sklearn.naive_bayes").GaussianNB()
    svm = needs("sklearn.svm").SVC
    if method == "svm-cubic":
        return svm(kernel="poly", degree=3, C=11.0, random_state=seed)
    return svm(kernel="poly", degree=4, C=4.0 if by_hand else 1.0, random_state=seed)


def searched(method: str, pipeline: Any, folds: Any, jobs: int = 1) -> Any:
    """A search over :data:`SEARCHED` for the best balanced accuracy, as an estimator that is fitted like any other.

    Args:
        method: one of :data:`METHODS`.
        pipeline: as :func:`preset` gives it.
        folds: how to divide the pictures: a number, or pairs of indices.
        jobs: processes that may work at once.
    """
    name = pipeline.steps[-1][0]
    grid = {f"{name}__{key}": values for key, values in SEARCHED[method].items()}
    return needs("sklearn.model_selection").GridSearchCV(
        pipeline, grid, scoring="balanced_accuracy", cv=folds, n_jobs=jobs
    )
