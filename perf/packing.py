"""Eight responses to a question in one shared-prefix row, against one row per response with the image repeated: CPU time.

Forward and backward of a tiny Qwen2.5-VL, one thread; the hidden states of both layouts are the same, which is checked.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.packing import Branch, Row, hidden_states, pack_rows, prompt_positions
from masters.models.tiny import make_untrained

RESPONSES, LENGTH, SIZE, ROUNDS = 8, 16, 448, 3


def main() -> None:
    """Both in turn."""
    torch.set_num_threads(1)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        make_untrained(Path(folder), "teacher", 0, torch.float32)
        chat, model = ChatProcessor(Path(folder), QWEN2_5_VL), load_model(Path(folder), torch.float32)
    question = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is the circle?"}]}
    ]
    prompt = chat.encode(question, [Image.new("RGB", (SIZE, SIZE), "white")])
    prefix = Row(prompt.input_ids, prompt_positions(model, prompt.input_ids, prompt.media), ())
    branches = [Branch(torch.randint(10, 300, (LENGTH,)).tolist()) for _ in range(RESPONSES)]
    shared = pack_rows([replace(prefix, branches=branches)], 0)
    repeated = pack_rows([replace(prefix, branches=[branch]) for branch in branches], 0)
    media = {name: torch.cat([value] * RESPONSES) for name, value in prompt.media.items()}
    seconds: dict[str, list[float]] = {"shared prefix": [], "row per response": []}
    for _ in range(ROUNDS):
        states = []
        for name, packed, inputs in (("shared prefix", shared, prompt.media), ("row per response", repeated, media)):
            began = time.process_time()
            states.append(hidden_states(model, packed, inputs))
            states[-1].square().sum().backward()
            seconds[name].append(time.process_time() - began)
        torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
    ratios = [slow / fast for slow, fast in zip(seconds["row per response"], seconds["shared prefix"], strict=True)]
    for name, values in seconds.items():
        print(f"{name:<17} {statistics.median(values):6.2f} CPU-s")
    tokens = len(prompt.input_ids)
    print(
        f"a prompt of {tokens} tokens, {RESPONSES} responses of {LENGTH}: one row per response takes "
        f"{statistics.median(ratios):.1f} times as long ({min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
