"""OpenVINO GenAI on a folder that optimum-intel made of the same weights, int8."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import openvino
import openvino_genai
from protocol import serve

pipeline = None


def convert(folder: str, out: str) -> str:
    """Done apart from the measured process: it needs transformers and torch."""
    command = [os.path.join(os.path.dirname(sys.executable), "optimum-cli"), "export", "openvino"]  # noqa: PTH118, PTH120
    command += ["--model", folder, "--task", "text-generation-with-past", "--weight-format", "int8", out]
    subprocess.run(command, check=True)
    return out


def load(folder: str, **_: object) -> str:
    global pipeline
    pipeline = openvino_genai.LLMPipeline(folder, "CPU", INFERENCE_NUM_THREADS=len(os.sched_getaffinity(0)))
    return "int8"


def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
    wishes = openvino_genai.GenerationConfig()
    wishes.max_new_tokens = new
    wishes.ignore_eos = True
    wishes.do_sample = False
    ids = np.array(prompts, dtype=np.int64)
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
    return [list(tokens) for tokens in pipeline.generate(inputs, wishes).tokens]


if __name__ == "__main__":
    serve({"convert": convert, "load": load, "generate": generate})
