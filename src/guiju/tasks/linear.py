"""Logistic regression over TF-IDF: the classifier that a larger one has to beat to be worth its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guiju.errors import DataError
from guiju.tasks.extras import import_extra


def linear_probabilities(
    texts: Sequence[str], labels: Sequence[str], asked: Sequence[str], language: str
) -> list[dict[str, float]]:
    """What it says of each text that is asked, label to probability, after it has seen labelled ones.

    English and German are cut into words and pairs of them, Chinese into characters, pairs and threes.

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
    table = model.predict_proba(weigh.transform(asked))
    return [dict(zip(map(str, model.classes_), map(float, row), strict=True)) for row in table]
