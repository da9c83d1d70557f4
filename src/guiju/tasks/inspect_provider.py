"""guiju's models in Inspect: `inspect eval task.py --model guiju/runs/quickstart`, found by the entry point
`inspect_ai`."""

from __future__ import annotations

import asyncio
from typing import Any

from guiju.errors import ModelError
from guiju.providers import LanguageModel, load
from guiju.tasks.extras import import_extra

_INSPECT: Any = import_extra("inspect_ai.model", "guiju in Inspect", "harness")

MOST_NEW_TOKENS = 256
"""Where a task names no other number."""

_STOPS = {"stop": "stop", "length": "max_tokens"}


class GuijuAPI(_INSPECT.ModelAPI):  # type: ignore[misc]
    """A model reference as Inspect asks it: messages in, one answer out."""

    def __init__(self, model_name: str, base_url: Any = None, api_key: Any = None, config: Any = None, **args: Any):
        """
        Args:
            model_name: what stands behind `guiju/`: any model reference.
            args: `tokenizer`, where it is not the model's own.
        """
        super().__init__(model_name, base_url, api_key, [], config or _INSPECT.GenerateConfig())
        self.model: LanguageModel = load(model_name, args.get("tokenizer"))
        self._one_at_a_time = asyncio.Lock()

    async def generate(self, input: list[Any], tools: list[Any], tool_choice: Any, config: Any) -> Any:
        """The answer to a conversation.

        Raises:
            ModelError: the task gives tools, which the model cannot call.
        """
        if tools:
            raise ModelError(f"{self.model_name} calls no tools, but the task gives {len(tools)}. Take one without")
        messages = [(message.role, message.text) for message in input]
        async with self._one_at_a_time:  # the engine is one; its batches are made inside of a call
            prompt, found = await asyncio.to_thread(self._answer, messages, config)
        output = _INSPECT.ModelOutput.from_content(
            self.model_name, found.text.strip(), stop_reason=_STOPS[found.finish_reason]
        )
        if isinstance(prompt, list):
            sizes = (len(prompt), len(found.ids))
            output.usage = _INSPECT.ModelUsage(input_tokens=sizes[0], output_tokens=sizes[1], total_tokens=sum(sizes))
        return output

    def max_connections(self) -> int:
        return 1

    def _answer(self, messages: list[tuple[str, str]], config: Any) -> tuple[Any, Any]:
        prompt = self._prompt(messages)
        wishes: dict[str, Any] = {"max_new_tokens": config.max_tokens or MOST_NEW_TOKENS}
        wishes["stop"] = tuple(config.stop_seqs or ())
        if config.temperature:
            wishes |= {"temperature": config.temperature, "seed": config.seed}
            wishes |= {name: getattr(config, name) for name in ("top_p", "top_k") if getattr(config, name) is not None}
        else:
            wishes["greedy"] = True
        return prompt, next(iter(self.model.generate_each([prompt], **wishes)))[0]

    def _prompt(self, messages: list[tuple[str, str]]) -> Any:
        """A conversation in the model's own chat template; where it has none, the messages one below the other."""
        tokenizer: Any = getattr(self.model, "tokenizer", None)
        if getattr(tokenizer, "chat_template", None) is not None and hasattr(tokenizer, "encode_written"):
            from guiju.tokens import Chat, Turn, choose_template

            with Chat(choose_template("auto", tokenizer), tokenizer) as chat:
                return chat.prompt([Turn(role, text) for role, text in messages])
        return "\n\n".join(text for _, text in messages)


@_INSPECT.modelapi(name="guiju")  # type: ignore[untyped-decorator]
def guiju() -> type[GuijuAPI]:
    """What Inspect calls for a model whose name begins with guiju/."""
    return GuijuAPI
