"""Scores equal those of the libraries and published scripts of each field."""

from __future__ import annotations

import random

import numpy as np
import pytest

from guiju.errors import ConfigError
from guiju.tasks import CodeProblem, Labelled, Pair, Question
from guiju.tasks.consistency import check_faithfulness
from guiju.tasks.estimates import difference, estimate, mean, rate
from guiju.tasks.evaluation import TASKS
from guiju.tasks.extras import import_extra
from guiju.tasks.labels import match_head, match_label
from guiju.tasks.languages import language_of
from guiju.tasks.question_answering import cite
from guiju.tasks.rouge import RougeTokenizer, lead, oracle, rouge_scores, sentences
from guiju.tasks.samples import Sample
from guiju.tasks.sentiment import brier, calibration_error, macro_f1
from guiju.tasks.squad import cmrc_exact, cmrc_f1, squad_exact, squad_f1
from guiju.tasks.translation import corpus_metrics

pytest.importorskip("sacrebleu", reason="needs pip install 'guiju[eval]'")

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "on",
    "mat",
    "ran",
    "Home",
    "quickly",
    ",",
    ".",
    "!",
    "in",
    "3",
    "red",
    "Berlin",
)
CHARACTERS = "今天天气很好我们去公园散步，看见了一只猫。"


def text(chance: random.Random, words: tuple[str, ...] | str, joint: str = " ") -> str:
    return joint.join(chance.choice(words) for _ in range(chance.randint(3, 14)))


@pytest.mark.parametrize(("language", "words", "joint"), [("en", WORDS, " "), ("zh", CHARACTERS, "")])
def test_bleu_and_chrf_are_sacrebleus_to_the_last_digit_with_signatures(language, words, joint):
    import sacrebleu

    chance = random.Random(1)
    predictions = [text(chance, words, joint) for _ in range(40)]
    references = [(text(chance, words, joint), prediction + joint + "猫") for prediction in predictions]
    metrics, signatures = corpus_metrics(zip(predictions, references, strict=True), 40, language)
    streams = [list(stream) for stream in zip(*references, strict=True)]
    cut = "zh" if language == "zh" else "13a"
    bleu = sacrebleu.corpus_bleu(predictions, streams, tokenize=cut)
    assert metrics["bleu"].value == pytest.approx(bleu.score, abs=1e-9)
    assert metrics["chrf++"].value == pytest.approx(sacrebleu.corpus_chrf(predictions, streams, word_order=2).score)
    assert f"tok:{cut}|smooth:exp" in signatures["bleu"]
    assert "nw:2" in signatures["chrf++"]


def test_tokenised_bleu_does_not_see_case():
    metrics, _ = corpus_metrics([("the cat sat on a mat .", ("The Cat sat on a mat.",))], 1, "en")
    assert metrics["bleu_tokenised"].value == pytest.approx(100)
    assert metrics["bleu"].value < 80


def test_a_set_may_have_more_references_of_one_sentence_than_of_another():
    answers = [("the cat sat there", ("x y", "the cat sat there")), ("a dog ran home", ("a dog ran home",))]
    both, _ = corpus_metrics(answers, 2, "en")
    assert both["bleu"].value == pytest.approx(100)


def test_rouge_of_english_is_rouge_scores_own():
    from rouge_score.rouge_scorer import RougeScorer

    chance = random.Random(2)
    pairs = [(text(chance, WORDS), text(chance, WORDS)) for _ in range(50)]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    ours = rouge_scores([one for one, _ in pairs], [[other] for _, other in pairs])
    for (prediction, target), score in zip(pairs, ours, strict=True):
        theirs = scorer.score(target, prediction)
        assert score == {name: pytest.approx(theirs[name].fmeasure) for name in score}


def test_rouge_keeps_chinese_character_by_character():
    assert RougeTokenizer().tokenize("GPT-2 在北京，3月") == ["gpt", "2", "在", "北", "京", "3", "月"]
    [score] = rouge_scores(["北京大学很大"], [["北京大学不小", "上海"]])
    assert score["rouge1"] == pytest.approx(4 / 6)
    assert score["rouge2"] == pytest.approx(3 / 5)


def test_lead_is_the_first_sentence_and_the_oracle_the_nearest():
    source = "We met in 3.5 days. It rained, e.g. on Monday! The cat sat on a mat."
    assert sentences(source) == ["We met in 3.5 days.", "It rained, e.g. on Monday!", "The cat sat on a mat."]
    assert lead(source) == "We met in 3.5 days."
    assert oracle(source, ["a cat on the mat"]) == "The cat sat on a mat."
    assert oracle("天气很好。我们散步。", ["去散步"]) == "我们散步。"
    assert lead("") == ""
    assert sentences("提出了方法.实验表明3.5倍;结果好.") == ["提出了方法.", "实验表明3.5倍;", "结果好."]


@pytest.mark.parametrize(
    ("summary", "source", "language", "numbers", "names", "negations"),
    [
        ("Sales rose 5%.", "Sales rose by 5 % in 2020.", "en", (), (), ()),
        ("Sales rose 15%.", "Sales rose by 5 % in 2020.", "en", ("15",), (), ()),
        ("They paid 1,000.50 euros.", "They paid 1000.5 euros.", "en", (), (), ()),
        ("The prize went to Marie Curie.", "Curie won the prize.", "en", (), ("Marie",), ()),
        ("GPT-3 is used.", "We use BERT.", "en", ("3",), ("GPT-3",), ()),
        ("The drug does not help.", "The drug does help patients.", "en", (), (), ("help",)),
        ("The drug does help.", "The drug does not help.", "en", (), (), ("help",)),
        ("The drug doesn’t help.", "The drug did not help.", "en", (), (), ()),
        ("Das Mittel hilft nicht wirklich.", "Das Mittel wirkt wirklich.", "de", (), (), ("wirklich",)),
        ("该方法不适用于图像。", "该方法适用于图像。", "zh", (), (), ("适用",)),
        ("该方法适用于图像。", "该方法不适用于图像。", "zh", (), (), ("适用",)),
        ("该方法不仅快，而且准。", "该方法快而且准。", "zh", (), (), ()),
        ("《红楼梦》写于１７５９年", "《红楼梦》写于1759年。", "zh", (), (), ()),
        ("《三国》写于1522年", "《红楼梦》写于1759年。", "zh", ("1522",), ("三国",), ()),
    ],
)
def test_numbers_names_and_negation_that_a_text_does_not_bear_out_are_found(
    summary, source, language, numbers, names, negations
):
    found = check_faithfulness(summary, source, language)
    assert (found.numbers, found.names, found.negations) == (numbers, names, negations)
    assert found.consistent == (not (numbers or names or negations))


# What the published evaluate-v1.1.py and evaluate-v2.0.py of SQuAD give, worked out by hand by their rules.
@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Broncos", ["Denver Broncos", "broncos"], 1, 1),
        ("Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("the Denver  Broncos of Colorado", ["Denver Broncos"], 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("308 points", ["308"], 0, 2 / 3),
        ("a an the", ["of the"], 0, 0),
        ("cat cat dog", ["cat dog dog"], 0, 2 / 3),
        ("U.S.", ["us"], 1, 1),
        ("", [], 1, 1),
        ("something", [], 0, 0),
        ("", ["something"], 0, 0),
        ("Straße", ["straße"], 1, 1),
    ],
)
def test_squads_rules_give_what_its_scripts_give(prediction, answers, exact, f1):
    assert squad_exact(prediction, answers) == exact
    assert squad_f1(prediction, answers) == pytest.approx(f1)


# What cmrc2018_evaluate.py gives, worked out by hand by its rules: characters, runs, its own list of marks.
@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("光荣和ω-force", ["光荣和ω-force"], 1, 1),
        ("《战国无双3》", ["战国无双3"], 1, 1),
        ("光荣", ["光荣和ω-force"], 0, 2 * 1 * (2 / 4) / (1 + 2 / 4)),
        ("北京市", ["北京", "南京市"], 0, 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("大学北京", ["北京大学"], 0, 0.5),
        ("WINDOWS 系统", ["windows 系统"], 1, 1),
        ("上海", ["北京"], 0, 0),
        ("", [], 1, 1),
    ],
)
def test_cmrcs_rules_give_what_its_script_gives(prediction, answers, exact, f1):
    assert cmrc_exact(prediction, answers) == exact
    assert cmrc_f1(prediction, answers) == pytest.approx(f1)


def question(context: str, *answers: str, id: str = "0") -> Question:
    starts = tuple(context.find(one) for one in answers)
    return Question(id=id, place="here", question="Who?", context=context, answers=answers, starts=starts)


def test_saying_that_there_is_no_answer_is_an_answer_and_saying_nothing_is_none():
    samples = [
        Sample(question("It was Ann.", "Ann", id="a"), "Ann"),
        Sample(question("It was Ann.", id="b"), ""),
        Sample(question("It was Ann.", id="c"), None, "unanswered"),
        Sample(question("It was Ann.", "Ann", id="d"), "Bob"),
    ]
    scores = TASKS["question-answering"].score(samples, "en")
    figures = {name: estimate(statistic) for name, statistic in scores.metrics.items()}
    assert (figures["exact_match"].value, figures["exact_match"].n) == (0.5, 4)
    assert (figures["unanswerable_abstained"].value, figures["unanswerable_abstained"].n) == (0.5, 2)
    assert (figures["f1_answerable"].value, figures["f1_answerable"].n) == (0.5, 2)
    assert (figures["abstained"].value, figures["cited"].value, figures["cited"].n) == (0.25, 0.5, 2)


def test_an_answer_is_cited_where_it_stands_nearest_to_where_it_was_read():
    asked = question("Ann met Ann and ann.", "Ann")
    assert cite("Ann", asked) == (0, 3)
    assert cite("Ann", asked, near=9) == (8, 11)
    assert cite("ANN", asked, near=20) == (16, 19)
    assert cite("Bob", asked) is None
    assert cite("", asked) is None


def test_sentiments_figures_are_scikit_learns():
    from sklearn.metrics import accuracy_score, brier_score_loss, f1_score

    chance = np.random.default_rng(3)
    labels = ["bad", "good", "so-so"]
    truth = chance.choice(labels, 200).tolist()
    table = chance.dirichlet([1, 1, 1], 200)
    predicted = [labels[place] for place in table.argmax(axis=1)]
    samples = [
        Sample(
            Labelled(id=str(n), place="", text="x", label=label, groups={"half": str(n % 2)}),
            said,
            details={"probabilities": dict(zip(labels, map(float, row), strict=True))},
        )
        for n, (label, said, row) in enumerate(zip(truth, predicted, table, strict=True))
    ]
    scores = TASKS["sentiment"].score(samples, "en")
    assert scores.metrics["accuracy"].value == pytest.approx(accuracy_score(truth, predicted))
    assert scores.metrics["macro_f1"].value == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores.metrics["brier"].value == pytest.approx(brier_score_loss(truth, table, labels=labels))
    half = [n for n in range(200) if n % 2]
    expected = accuracy_score([truth[n] for n in half], [predicted[n] for n in half])
    assert scores.groups["half: 1"]["accuracy"].value == pytest.approx(expected)
    assert len(scores.groups["half: 1"]["accuracy"].rows) == 100
    two = table[:, :2] / table[:, :2].sum(axis=1, keepdims=True)
    wanted = chance.integers(0, 2, 200)
    assert brier(two, wanted).value == pytest.approx(brier_score_loss(wanted, two[:, 1]))


def test_calibration_error_is_the_gap_of_each_bin_weighed_by_its_share():
    table = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.45, 0.55]])
    right = np.array([True, False, True, False])
    by_hand = 2 / 4 * abs(0.9 - 0.5) + 1 / 4 * abs(0.7 - 1) + 1 / 4 * abs(0.55 - 0)
    assert calibration_error(table, right).value == pytest.approx(by_hand)


def test_a_rare_class_counts_as_much_as_a_common_one():
    truth, predicted = ["a"] * 9 + ["b"], ["a"] * 10
    assert macro_f1(truth, predicted, ["a", "b"]).value == pytest.approx((18 / 19 + 0) / 2)
    assert macro_f1(["a", "b"], [None, "c"], ["a", "b"]).value == 0


@pytest.mark.parametrize(
    ("given", "labels", "meant"),
    [
        ("1", ["0", "1"], "1"),
        ("Positive", ["0", "1"], "1"),
        ("LABEL_0", ["negative", "positive"], "negative"),
        ("差评", ["0", "1"], "0"),
        ("工学", ["工学", "理学"], "工学"),
        ("LABEL_3", ["0", "1", "2", "3"], "3"),
        ("furious", ["0", "1"], None),
    ],
)
def test_a_classs_name_is_understood_across_data_heads_and_languages(given, labels, meant):
    assert match_label(given, labels) == meant


def test_a_label_that_a_head_has_not_is_an_error():
    from guiju.errors import DataError

    assert match_head(["LABEL_0", "LABEL_1"], ["0", "1"]) == ["0", "1"]
    with pytest.raises(DataError, match="the label 'neutral', which the model's head has not"):
        match_head(["negative", "positive"], ["negative", "neutral", "positive"])


def test_every_sample_counts_even_those_without_an_answer():
    pair = Pair(id="0", place="", source="a b", targets=("eins zwei drei vier",))
    other = Pair(id="1", place="", source="a b", targets=("fünf",))
    whole = TASKS["translation"].score([Sample(pair, "eins zwei drei vier")], "de").metrics["chrf++"].value
    half = TASKS["translation"].score([Sample(pair, "eins zwei drei vier"), Sample(other, None, "unanswered")], "de")
    assert whole == pytest.approx(100)
    assert half.metrics["chrf++"].value < 99
    labelled = Labelled(id="0", place="", text="x", label="1")
    assert TASKS["sentiment"].score([Sample(labelled, None, "unanswered")], "en").metrics["accuracy"].value == 0
    summary = TASKS["summarization"].score([Sample(pair, None, "refused")], "en").metrics
    assert summary["consistent"].value == summary["rougeL"].value == 0


def test_a_program_counts_by_the_verdict_on_it():
    problem = CodeProblem(id="0", place="", prompt="p", tests="", entry_point="f", solution="", kind="continuation")
    tries = [[{"status": "passed"}, {"status": "wrong"}], [{"status": "wrong"}, {"status": "timeout"}]]
    samples = [Sample(problem, "x", details={"verdicts": row}) for row in tries]
    assert TASKS["code"].score(samples, "en").metrics["pass@1"].value == pytest.approx(0.25)


def test_a_rates_interval_is_exact_and_a_means_comes_from_the_bootstrap_alike_each_time():
    from scipy.stats import beta, bootstrap

    found = estimate(rate([True] * 30 + [False] * 70))
    assert (found.low, found.high) == (pytest.approx(beta.ppf(0.025, 30, 71)), pytest.approx(beta.ppf(0.975, 31, 70)))
    assert estimate(mean([0.0] * 50)).high == pytest.approx(beta.ppf(0.975, 1, 50))
    values = np.random.default_rng(4).normal(size=300)
    ours, again = estimate(mean(values)), estimate(mean(values))
    assert ours == again
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_a_paired_difference_is_surer_than_two_intervals():
    chance = np.random.default_rng(5)
    hard = chance.random(400)
    one, other = mean(hard), mean(hard + chance.normal(0.03, 0.02, 400))
    found = difference(other, one)
    assert found.verdict == "better"
    assert found.value == pytest.approx(0.03, abs=0.005)
    assert estimate(one).high > estimate(other).low
    assert difference(one, other).verdict == "worse"
    assert difference(one, one).verdict == "undecided"


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["The cat sat on the mat."], "en"),
        (["Die Katze saß auf der Matte und schlief."], "de"),
        (["猫坐在垫子上。"], "zh"),
        (["GPT-2 在 ImageNet 上"], "zh"),
        ([""], "en"),
    ],
)
def test_the_language_of_a_set_is_told_by_its_texts(texts, language):
    assert language_of(texts) == language


def test_a_library_that_is_not_installed_is_named_with_the_way_to_it():
    with pytest.raises(ConfigError, match=r"BLEU needs nowhere_to_be_found, which .* pip install 'guiju\[eval\]'"):
        import_extra("nowhere_to_be_found.metrics", "BLEU")
