"""One table: who measures what, and how a figure is held against a clause's bound.

A bound of the catalogue names what it is held against (`of`: rate, n, share or value); this table says, per measure,
where that stands in a `measurement` record, which filters must have run before a figure speaks for the clause, and
which part of guiju measures it. A measure with `since = None` is not measured by this version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guiju.audit.notes import Note

Form = Literal["rate", "quantity", "report"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How this version measures something."""

    form: Form
    """rate = count of n; quantity = one value; report = figures that a person reads, with nothing to compare."""

    room: str
    filters: tuple[str, ...] = ()
    """Filters that the clause asks for by name: without a record that they ran, the figure supports nothing."""

    confirmed: tuple[str, ...] = ()
    """Details that must be true for the same reason."""


KEYWORD_AND_CLASSIFIER = ("keyword", "classifier")

MEASURES: dict[str, Measured] = {
    # measure                                     what its record holds, who writes it, filters that must have run
    "license_coverage": Measured(form="rate", room="corpus"),
    "source_registry_completeness": Measured(form="rate", room="corpus"),
    "source_diversity_count": Measured(form="quantity", room="corpus"),
    "domestic_foreign_mix_report": Measured(form="report", room="corpus"),
    "pii_hits_per_1k_docs": Measured(form="quantity", room="corpus"),
    "sensitive_pii_hits": Measured(form="quantity", room="corpus"),
    "corpus_filter_coverage": Measured(form="rate", room="corpus", filters=KEYWORD_AND_CLASSIFIER),
    "corpus_technical_sample_pass_rate": Measured(form="rate", room="corpus", filters=KEYWORD_AND_CLASSIFIER),
    "corpus_manual_sample_pass_rate": Measured(form="rate", room="corpus", filters=("person",)),
    "user_data_consent_coverage": Measured(form="rate", room="corpus"),
    "robots_optout_respected": Measured(form="rate", room="corpus", confirmed=("addresses_examined",)),
    "contamination_rate": Measured(form="rate", room="corpus"),
    "dedup_ratio": Measured(form="report", room="corpus"),
    "data_quality_report": Measured(form="report", room="corpus"),
    "param_count": Measured(form="quantity", room="compute"),
    "training_flops": Measured(form="quantity", room="compute"),
    "energy_kwh": Measured(form="quantity", room="compute"),
    "co2e_kg": Measured(form="quantity", room="compute"),
    "log_integrity": Measured(form="quantity", room="evidence"),
    "model_hash_match": Measured(form="rate", room="evidence"),
    "data_version_hash_coverage": Measured(form="rate", room="evidence"),
    "training_config_captured": Measured(form="rate", room="evidence"),
    "unsafe_pickle_count": Measured(form="quantity", room="evidence"),
    "clause_result_coverage": Measured(form="rate", room="audit"),
}

_LATER: tuple[tuple[Note, str], ...] = (
    # who measures it later                                        which measures
    (
        Note("the guard room (keyword and classifier filters, test banks)", "防护模块（关键词与分类过滤、测试题库）"),
        "source_bad_content_ratio blocklist_domain_hits keyword_library_size keyword_library_coverage "
        "library_freshness_days classifier_risk_coverage input_screen_coverage violation_lockout_test "
        "input_attack_monitoring tool_conformance poison_suspect_rate question_bank_size question_bank_coverage "
        "judging_rubric_risk_coverage generated_content_pass_rate_manual generated_content_pass_rate_keyword "
        "generated_content_pass_rate_classifier refusal_rate over_refusal_rate violating_response_rate jailbreak_asr "
        "prompt_injection_asr system_prompt_leak_rate tool_permission_violations output_validation_coverage "
        "rag_isolation_violations adversarial_eval_coverage safety_eval_cadence_days anthropomorphism_rate "
        "training_eval_includes_safety dangerous_capability_score",
    ),
    (
        Note("the tasks room (evaluation on task data)", "任务评测模块"),
        "factuality_score helpfulness_score hallucination_rate citation_precision robustness_drop regression_gate "
        "safety_regression_delta benchmark_baseline_recorded eval_report_completeness judge_agreement "
        "accuracy_declared",
    ),
    (
        Note("the leakage room (attacks on memory and privacy)", "泄露测试模块（记忆与隐私攻击）"),
        "memorisation_extraction_rate copyright_verbatim_overlap mia_auc pii_leak_rate",
    ),
    (Note("the privacy room (private training)", "隐私训练模块"), "dp_epsilon"),
    (Note("the fairness room", "公平性模块"), "bias_score group_performance_gap"),
    (
        Note(
            "the provenance room (labels, watermarks, bills of materials, cards)",
            "溯源模块（标识、水印、物料清单、卡片）",
        ),
        "label_presence_rate label_export_rate implicit_label_validity implicit_label_detection_rate "
        "label_removal_test label_signature_validity c2pa_manifest_validity marking_layer_count "
        "mark_preservation_rate watermark_tpr_at_fpr watermark_robustness output_fingerprint_recall detector_available "
        "sbom_completeness open_vuln_count model_card_completeness training_content_summary_present "
        "annex_xi_completeness annex_xii_completeness annex_iv_completeness model_doc_form_completeness "
        "data_lineage_completeness top_domain_list licence_check finetune_flops_ratio",
    ),
    (
        Note("the serving and review rooms (a running service)", "服务与复核模块（运行中的服务）"),
        "optout_click_count transparency_page_fields complaint_channel_present complaint_response_hours "
        "age_gate_present rate_limit_test ai_disclosure_present log_completeness log_retention_days "
        "unlabelled_release_log_retention incident_log_completeness incident_report_latency incident_time_to_mitigate "
        "availability_ratio override_test_pass prompt_log_pii_hits dsar_response_days reassessment_after_release "
        "doc_request_latency restore_drill_success env_isolation_check storage_isolation_check",
    ),
    (
        Note("the annotation tools", "标注工具"),
        "annotator_role_separation annotation_seconds_per_item annotation_rule_risk_coverage annotator_exam_coverage "
        "annotation_accuracy_sample safety_annotation_review_coverage annotation_lineage_completeness "
        "inter_annotator_agreement annotation_anomaly_rate safety_data_share",
    ),
)

_WHO_LATER = {measure: note for note, names in _LATER for measure in names.split()}

_ROOMS = {
    "corpus": Note("the corpus stage", "语料阶段"),
    "compute": Note("the cost meter of a training run", "训练运行的成本计量"),
    "evidence": Note("the run's ledger and files", "运行的账本与文件"),
    "audit": Note("the audit itself", "审计本身"),
}


def not_measured(measure: str | None) -> Note:
    """Why there is no figure, and who would measure it, in one plain sentence."""
    if measure is None:
        return Note("Nothing sensible can be computed for this clause.", "本条没有可计算的指标。")
    if known := MEASURES.get(measure):
        who = _ROOMS[known.room]
        return Note(
            f"Not measured here: {who.en} measures it ({measure}), and left no such record.",
            f"此处未测量：该指标（{measure}）由{who.zh}测量，而账本中没有这项记录。",
        )
    if later := _WHO_LATER.get(measure):
        return Note(
            f"Not measured: {later.en} would measure it ({measure}), which this version does not have.",
            f"未测量：该指标（{measure}）应由{later.zh}测量，本版本尚无此模块。",
        )
    return Note(
        f"Not measured: no part of this version measures {measure}.", f"未测量：本版本没有测量 {measure} 的模块。"
    )
