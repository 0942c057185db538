"""The paper's benchmarks: facts, files, prompts and scores. Pure: the same files and answers give the same score, byte for byte.

`recipe` says which benchmarks a recipe wants. What a caller does, for one of `facts.BENCHMARKS` and the user's file of it:

    file = read(benchmark, path)                        # every row checked, no image kept: file.questions, file.remarks
    for question in file.with_images(start, stop):      # streamed; images are encoded bytes
        asked = prompt(benchmark, question, style)      # asked.pieces: texts and numbers of images, in order
        ...                                             # ask a model
    answers = {question.index: Answer(text, truncated)} # Answer(None) where the engine failed: asked again, never scored
    found = outcomes(benchmark, questions, answers, judge)      # of any part of the questions: rules, then the judge
    result = summarise(file, found)                             # Score
    result = score(file, answers, judge)                        # the two at once

A `Judge` maps what the rules leave open to a letter or a number; it never sees the right answer. Without one, what is open
counts as wrong. MM-Vet alone is graded by it, and has no score without. A benchmark of which an answer is missing has none.
`intervals` has the paired gain of one score over another, and the mean over benchmarks.

One module per kind of metric: `letters` (option letter), `circular` (all rotations of a question), `relaxed` (ChartQA),
`typed` (MathVista), `open_answers` (MMMU), `graded` (MM-Vet), `yes_no`. Each has `extract`, `value`, and, where a judge helps,
`judge_prompt` and `judge_reply`.

The rules are those of other harnesses without their known faults; nothing of these is imported.
"""

from masters.benchmarks.asking import Judge
from masters.benchmarks.facts import BENCHMARKS, Benchmark, benchmark_named
from masters.benchmarks.files import QuestionFile, read
from masters.benchmarks.prompts import Prompt, prompt
from masters.benchmarks.questions import Question
from masters.benchmarks.scoring import Answer, Outcome, Score, outcomes, score, summarise

__all__ = [
    "BENCHMARKS",
    "Answer",
    "Benchmark",
    "Judge",
    "Outcome",
    "Prompt",
    "Question",
    "QuestionFile",
    "Score",
    "benchmark_named",
    "outcomes",
    "prompt",
    "read",
    "score",
    "summarise",
]
