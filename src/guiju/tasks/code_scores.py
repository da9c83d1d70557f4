"""pass@k: how likely it is that one of k samples passes all tests (arXiv:2107.03374)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from guiju.errors import ConfigError
from guiju.statistics import Interval, clopper_pearson


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate 1 - C(n - c, k) / C(n, k), exact to the last digits for any n.

    Args:
        n: samples that were drawn of a problem.
        c: how many of them pass.
        k: how many a user would draw, 1 to n: an estimate from fewer samples would be biased.
    Raises:
        ConfigError: n, c and k cannot be.
    Source: Chen et al. 2021, Evaluating Large Language Models Trained on Code (arXiv:2107.03374), equation 1.
    """
    if n < 1 or not 0 <= c <= n:
        raise ConfigError(f"{c} of {n} samples cannot pass; pass@k needs 1 sample or more, and 0 to n that pass")
    if not 1 <= k <= n:
        raise ConfigError(f"pass@{k} cannot be told from {n} samples a problem: draw at least {k}, or ask for less")
    if n - c < k:
        return 1.0
    # C(n - c, k) / C(n, k) as a product of min(c, k) factors: by k draws, or by c passing ones, whichever are fewer.
    fewer, more = sorted((c, k))
    # The logarithm of a factor near 1 keeps what the factor has rounded away, and so does the end.
    return -math.expm1(math.fsum(math.log1p(-more / (n - i)) for i in range(fewer)))


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int, confidence: float = 0.95) -> tuple[float, Interval]:
    """The mean of pass@k over problems, and an interval for problems like these.

    Where each estimate is 0 or 1 it is the exact interval of a rate. Otherwise it is the one of Chernoff and Hoeffding,
    which holds at any number of problems for whatever lies between 0 and 1, and is a little wide.

    Args:
        counts: (n, c) of each problem: samples drawn, samples that pass.
    Raises:
        ConfigError: there are no problems, or pass@k cannot be told from one of them.
    Source: Hoeffding 1963, Probability inequalities for sums of bounded random variables, theorem 1.
    """
    if not counts:
        raise ConfigError("pass@k is a mean over problems, and there are none")
    estimates = [pass_at_k(n, c, k) for n, c in counts]
    mean = math.fsum(estimates) / len(estimates)
    if all(estimate in (0.0, 1.0) for estimate in estimates):
        return mean, clopper_pearson(round(mean * len(estimates)), len(estimates), confidence)
    far = math.log(2 / (1 - confidence)) / len(estimates)
    return mean, Interval(_edge(mean, 0.0, far), _edge(mean, 1.0, far))


def _edge(mean: float, end: float, far: float) -> float:
    """The rate between the mean and an end that lies `far` from the mean, in nats of relative entropy."""
    near, beyond = mean, end
    for _ in range(100):
        middle = (near + beyond) / 2
        if _relative_entropy(mean, middle) > far:
            beyond = middle
        else:
            near = middle
    return beyond


def _relative_entropy(p: float, q: float) -> float:
    """From a coin of p to a coin of q, in nats."""

    def part(a: float, b: float) -> float:
        return 0.0 if a == 0 else math.inf if b == 0 else a * math.log(a / b)

    return part(p, q) + part(1 - p, 1 - q)
