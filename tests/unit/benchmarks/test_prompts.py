"""What is asked, word by word."""

import pytest

from masters.benchmarks import BENCHMARKS, Question, benchmark_named, prompt
from masters.benchmarks.prompts import STYLES

OPTIONS = {"A": "cat", "B": "dog"}
PLAIN = Question("0", "Which one?", "A", OPTIONS)
HINTED = Question("0", "Which one?", "A", OPTIONS, hint="Look.")
CHINESE = Question("0", "哪个？", "A", OPTIONS)
OPEN = Question("0", "How many?", "4")
MARKED = Question("0", "Is <image 2> like <image 3>?", "A", {"A": "<image 1>", "B": "no"})
ASKED = "Question: Which one?\nOptions:\nA. cat\nB. dog\n"
SELECT = "Please select the correct answer from the options above."
PRO = "Answer directly with the option letter from the given choices. "
DIRECT = "Answer with the option's letter from the given choices directly."
QWEN2_5 = "\nPlease try to answer the question with short words or phrases if possible."
QWEN3 = "\nPlease answer concisely with short words or phrases when possible."
MARKS = "Question: Is <image 2> like <image 3>?\nOptions:\nA. <image 1>\nB. no\n"
IN_IMAGE = "Answer the following multiple-choice question in the image. " + PRO

CASES = [
    # benchmark, style, question, number of images, pieces
    ("MMStar", "generic", PLAIN, 1, (0, f"{ASKED}{SELECT} \n")),
    ("BLINK", "generic", HINTED, 3, (0, 1, 2, f"Hint: Look.\n{ASKED}{SELECT} \n")),
    ("MMBench_DEV_CN", "generic", CHINESE, 1, (0, f"Question: 哪个？\nOptions:\nA. cat\nB. dog\n{SELECT} \n")),
    ("RealWorldQA", "generic", OPEN, 1, (0, "Question: How many?\n")),
    ("MMStar", "generic", Question("0", "In <image 1>?", "A", OPTIONS), 1, (0, f"Question: In <image 1>?\nOptions:\nA. cat\nB. dog\n{SELECT} \n")),
    ("ChartQA_TEST", "generic", OPEN, 1, (0, "How many?\nAnswer the question using a single word or phrase.")),
    ("MathVista_MINI", "generic", OPEN, 1, (0, "How many?")),
    ("MMVet", "generic", OPEN, 1, (0, "How many?")),
    ("MMMU_DEV_VAL", "generic", PLAIN, 2, (0, 1, f"{ASKED}{SELECT} \n")),
    ("MMMU_DEV_VAL", "generic", OPEN, 1, (0, "Question: How many?\n")),
    ("MMMU_DEV_VAL", "generic", MARKED, 4, ("Question: Is ", 1, " like ", 2, "?\nOptions:\nA. ", 0, f"\nB. no\n{SELECT} \n")),
    ("MMMU_DEV_VAL", "generic", MARKED, 2, ("Question: Is ", 1, " like <image 3>?\nOptions:\nA. ", 0, f"\nB. no\n{SELECT} \n")),
    ("MMMU_Pro_10c", "generic", PLAIN, 1, (0, f"{ASKED}{PRO}")),
    ("MMMU_Pro_10c", "generic", MARKED, 3, ("Question: Is ", 1, " like ", 2, "?\nOptions:\nA. ", 0, f"\nB. no\n{PRO}")),
    ("MMMU_Pro_V", "generic", Question("0", "", "A"), 1, (0, IN_IMAGE)),
    ("MMMU_Pro_V", "internvl", Question("0", "", "A"), 1, (0, IN_IMAGE)),
    ("MMStar", "qwen2_5_vl", HINTED, 1, (0, f"Hint: Look.\n{ASKED}{SELECT}")),
    ("MMBench_DEV_CN", "qwen2_5_vl", CHINESE, 1, (0, "Question: 哪个？\nOptions:\nA. cat\nB. dog\n请直接回答选项字母。")),
    ("MMMU_DEV_VAL", "qwen2_5_vl", MARKED, 3, (0, 1, 2, f"{MARKS}{SELECT}")),
    ("MMMU_DEV_VAL", "qwen2_5_vl", CHINESE, 1, (0, f"Question: 哪个？\nOptions:\nA. cat\nB. dog\n{SELECT}")),
    ("MMMU_DEV_VAL", "qwen2_5_vl", OPEN, 1, (0, "Question: How many?")),
    ("MMMU_Pro_10c", "qwen2_5_vl", MARKED, 3, (0, 1, 2, f"{MARKS}{SELECT}")),
    ("ChartQA_TEST", "qwen2_5_vl", OPEN, 1, (0, f"How many?{QWEN2_5}")),
    ("MathVista_MINI", "qwen2_5_vl", OPEN, 1, (0, f"How many?{QWEN2_5}")),
    ("MMVet", "qwen2_5_vl", OPEN, 1, (0, "How many?")),
    ("MMStar", "qwen3_vl", PLAIN, 1, (0, f"{ASKED}Answer with the option letter only.")),
    ("MMBench_DEV_CN", "qwen3_vl", CHINESE, 1, (0, "Question: 哪个？\nOptions:\nA. cat\nB. dog\nAnswer with the option letter only.")),
    ("MMMU_DEV_VAL", "qwen3_vl", PLAIN, 2, (0, 1, f"{ASKED}{SELECT}")),
    ("MMVet", "qwen3_vl", OPEN, 1, (0, f"How many?{QWEN3}")),
    ("ChartQA_TEST", "qwen3_vl", OPEN, 1, (0, f"How many?{QWEN3}")),
    ("MMStar", "internvl", PLAIN, 1, (0, f"\nWhich one?\nA. cat\nB. dog\n{DIRECT}")),
    ("MMStar", "internvl", HINTED, 1, (0, f"\nLook.\nWhich one?\nA. cat\nB. dog\n{DIRECT}")),
    ("MMBench_DEV_CN", "internvl", CHINESE, 1, (0, "\n哪个？\nA. cat\nB. dog\n请直接回答选项字母。")),
    ("MMMU_DEV_VAL", "internvl", OPEN, 1, (0, "\nHow many?\nAnswer the question directly.")),
    ("MMMU_DEV_VAL", "internvl", Question("0", "多少？", "4"), 1, (0, "\n多少？\n请直接回答问题。")),
    ("BLINK", "internvl", PLAIN, 2, ("Image-1: ", 0, "\nImage-2: ", 1, f"\nWhich one?\nA. cat\nB. dog\n{DIRECT}")),
    ("MMMU_Pro_10c", "internvl", PLAIN, 1, (0, f"\nWhich one?\nA. cat\nB. dog\n{DIRECT}")),
    ("ChartQA_TEST", "internvl", OPEN, 1, (0, "\nHow many?\nAnswer the question using a single word or phrase.")),
    ("MMVet", "internvl", OPEN, 1, (0, "\nHow many?")),
    ("MMStar", "internvl", PLAIN, 0, (f"Which one?\nA. cat\nB. dog\n{DIRECT}",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "style", "question", "images", "pieces"), CASES)
def test_prompts(name, style, question, images, pieces):
    asked = prompt(benchmark_named(name), question, style, images)
    assert asked.pieces == pieces
    assert asked.images == tuple(piece for piece in pieces if isinstance(piece, int))
    kinds = [part["type"] for part in asked.content]
    assert kinds == ["image" if isinstance(piece, int) else "text" for piece in pieces]
    assert [part["text"] for part in asked.content if part["type"] == "text"] == [
        p for p in pieces if isinstance(p, str)
    ]


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("style", STYLES)
def test_every_benchmark_is_asked_in_every_style_and_never_tells_the_answer(name, style):
    question = Question("0", "Which?", "the right one", {"A": "cat", "B": "dog"}, images=(b"x",))
    asked = prompt(BENCHMARKS[name], question, style)
    text = "".join(piece for piece in asked.pieces if isinstance(piece, str))
    assert asked.images == (0,)
    assert "the right one" not in text
    assert ("Which?" in text) == (name != "MMMU_Pro_V")


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match=r"prompt: 'llava' is none of generic, qwen2_5_vl, qwen3_vl, internvl"):
        prompt(benchmark_named("MMStar"), PLAIN, "llava")
