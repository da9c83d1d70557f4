"""Logistic regression over TF-IDF: the classifier that a larger one has to beat to be worth its cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from guiju.errors import DataError
from guiju.tasks.estimates import Floats
from guiju.tasks.extras import import_extra

_AT_ONCE = 1000


def linear_probabilities(
    texts: Sequence[str], labels: Sequence[str], asked: Iterable[str], language: str
) -> tuple[list[str], Floats]:
    """What it says of each text that is asked, after it has seen labelled ones.

    English and German are cut into words and pairs of them, Chinese into characters, pairs and threes.

    Returns:
        Its classes, and (n, classes) probabilities.
    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: the labelled texts have fewer than two classes.
    """
    if len(set(labels)) < 2:
        raise DataError(f"the labelled texts have the classes {sorted(set(labels))}; a classifier needs two or more")
    vectorizer: Any = import_extra("sklearn.feature_extraction.text", "the baseline of sentiment").TfidfVectorizer
    regression: Any = import_extra("sklearn.linear_model", "the baseline of sentiment").LogisticRegression
    cut: dict[str, Any] = {"token_pattern": r"(?u)\b\w+\b", "ngram_range": (1, 2)}
    if language == "zh":
        cut = {"analyzer": "char", "ngram_range": (1, 3), "min_df": 2}
    weigh = vectorizer(sublinear_tf=True, **cut)
    model = regression(max_iter=1000, C=10.0)
    model.fit(weigh.fit_transform(texts), labels)
    waiting = iter(asked)
    tables: list[Floats] = []
    while part := list(itertools.islice(waiting, _AT_ONCE)):
        tables.append(model.predict_proba(weigh.transform(part)))
    classes = list(map(str, model.classes_))
    return classes, np.concatenate(tables) if tables else np.zeros((0, len(classes)))
