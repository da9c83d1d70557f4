"""Preferences cost what trl's own trainer says, on the same weights and the same rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from tuning import make_tuned
from worlds import WORDS, make_settings

from guiju.model import save_model
from guiju.tokens import IGNORED, Batch, TokenizerSettings, train_tokenizer
from guiju.training import make_objective
from guiju.training.preferences import row_log_probs

# trl asks transformers in ways that transformers will no longer answer in its next version.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing.* is deprecated:FutureWarning",
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
)


def lively(seed: int):
    model = make_tuned("preferences", context=64)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def test_preferences_cost_what_trl_says(tmp_path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, reference = lively(1), lively(2)
    train_tokenizer([" ".join(WORDS)] * 3, TokenizerSettings(vocab_size=290), tmp_path / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    tokenizer.pad_token = tokenizer.eos_token
    rows = [
        {"prompt": "the small fox", "chosen": " went home", "rejected": " saw every lamp"},
        {"prompt": "从前 狐狸", "chosen": " 不能成方圆 and that", "rejected": " over"},
        {"prompt": "old bridge", "chosen": " was still burning", "rejected": " was still home"},
    ]
    theirs = {}
    for name, model in (("model", policy), ("ref_model", reference)):
        save_model(model, tmp_path / name)
        theirs[name] = transformers.LlamaForCausalLM.from_pretrained(tmp_path / name)
    options = {"per_device_train_batch_size": 3, "report_to": "none", "use_cpu": True, "bf16": False}
    args = DPOConfig(output_dir=str(tmp_path / "out"), beta=0.2, **options)
    trainer = DPOTrainer(**theirs, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    inputs = next(iter(trainer.get_train_dataloader()))
    expected = trainer.compute_loss(trainer.model.eval(), inputs)

    order = torch.arange(6).view(2, 3).T.flatten()  # they put all preferred ones first
    ids, learned = inputs["input_ids"][order], inputs["completion_mask"][order].bool()
    targets = F.pad(ids.where(learned, IGNORED)[:, 1:], (0, 1), value=IGNORED)
    batch = Batch(ids, targets, padding=inputs["attention_mask"][order].bool())
    with torch.no_grad():
        held = row_log_probs(reference, reference.hidden, batch)
    objective = make_objective(make_settings(objective="preferences", preference_beta=0.2), policy.config)
    batch = Batch(ids, targets, padding=batch.padding, reference=held)
    objective.check([batch])
    found = objective.loss(policy, policy.hidden, batch) / objective.weigh(batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert abs(found.item() - 0.6931) > 1e-3
