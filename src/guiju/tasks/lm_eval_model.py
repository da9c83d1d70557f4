"""guiju's models in lm-evaluation-harness: `lm_eval --model guiju --model_args run=runs/quickstart --tasks ...`.

The harness finds it by the entry point `lm_eval.models`, from the version on that knows plugins; `main` is the same
command for versions before it (0.4.13 and older).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guiju.errors import ConfigError
from guiju.providers import LanguageModel, load
from guiju.tasks.extras import import_extra

_BASE: Any = import_extra("lm_eval.api.model", "guiju in lm-eval", "harness").LM

MOST_NEW_TOKENS = 256
"""Where a task names no other number, as in the harness's own models."""


class GuijuLM(_BASE):  # type: ignore[misc]
    """A model reference as the harness asks it. Batches are ours: by tokens, sorted by length, prefixes read once."""

    def __init__(self, run: str = "", tokenizer: str | None = None, **others: Any) -> None:
        """
        Args:
            run: any model reference.
            others: what the harness adds by itself (batch_size, max_batch_size, device), which nothing here needs.
        """
        super().__init__()
        unknown = set(others) - {"batch_size", "max_batch_size", "device"}
        if not run or unknown:
            wrong = f"knows no {', '.join(sorted(unknown))}" if unknown else "needs run=REF"
            raise ConfigError(f"--model guiju {wrong}; give --model_args run=REF, and tokenizer=FILE where it is apart")
        self.model: LanguageModel = load(run, tokenizer)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding would write it."""
        scores = self.model.score_continuations([request.args for request in requests])
        found = [(-score.nll_nats, score.greedy) for score in scores]
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihood of each whole text; a long one in windows that overlap by half."""
        found = [-score.nll_nats for score in self.model.score([request.args[0] for request in requests])]
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
        return found

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """A continuation of each prompt. Those that are to be written alike are written together."""
        alike: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            alike.setdefault(repr(sorted(request.args[1].items())), []).append(number)
        texts = [""] * len(requests)
        for numbers in alike.values():
            prompts = [requests[number].args[0] for number in numbers]
            wishes = _wishes(requests[numbers[0]].args[1])
            for number, sequences in zip(numbers, self.model.generate_each(prompts, **wishes), strict=True):
                texts[number] = sequences[0].text
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts


def _wishes(given: Mapping[str, Any]) -> dict[str, Any]:
    """The harness's settings of a generation as ours.

    Raises:
        ConfigError: one is unknown.
    """
    known = {"until", "max_gen_toks", "max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "num_beams"}
    unknown = set(given) - known
    if unknown:
        raise ConfigError(f"gen_kwargs holds {', '.join(sorted(unknown))}; guiju knows {', '.join(sorted(known))}")
    until = given.get("until") or ()
    limit = given.get("max_gen_toks", given.get("max_new_tokens", MOST_NEW_TOKENS))
    wishes: dict[str, Any] = {"max_new_tokens": int(limit)}
    wishes["stop"] = tuple(one for one in ([until] if isinstance(until, str) else until) if one)
    temperature = float(given.get("temperature") or 0.0)
    if given.get("do_sample", temperature > 0) and temperature > 0:
        wishes |= {"temperature": temperature, **{name: given[name] for name in ("top_p", "top_k") if name in given}}
    elif int(given.get("num_beams", 1)) > 1:
        wishes["num_beams"] = int(given["num_beams"])
    else:
        wishes["greedy"] = True
    return wishes


def main() -> None:
    """The harness's own command with guiju among its models."""
    registry: Any = import_extra("lm_eval.api.registry", "guiju in lm-eval", "harness")
    import_extra("lm_eval.models", "guiju in lm-eval", "harness")
    if "guiju" not in registry.model_registry:
        registry.model_registry.register("guiju", target=f"{__name__}:GuijuLM" if __name__ != "__main__" else GuijuLM)
    import_extra("lm_eval.__main__", "guiju in lm-eval", "harness").cli_evaluate()


if __name__ == "__main__":
    main()
