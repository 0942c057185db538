"""How long vLLM engines take for questions: prefill goes with arithmetic, decoding with the weights that each step reads."""

from dataclasses import dataclass

from masters.config.resources import EngineResources
from masters.families.sizes import ModelSize
from masters.planning import throughputs as pace
from masters.planning.flops import decoding, seeing
from masters.planning.lengths import Lengths
from masters.planning.memory import engine_memory
from masters.planning.places import Place


@dataclass(frozen=True)
class Asked:
    """Prompts, each with so many answers.

    Attributes:
        questions: prompts that are computed; answers to one share it.
        count: answers to each.
        prompt, image, answer: tokens of each.
        shard: questions that an engine has at once.
    """

    questions: int
    count: int
    prompt: float
    image: float
    answer: float
    shard: int

    @classmethod
    def of(cls, lengths: Lengths, questions: int, count: int, shard: int) -> "Asked":
        """Questions about images."""
        return cls(questions, count, lengths.prompt_tokens, lengths.image_tokens, lengths.response_tokens, shard)

    @property
    def rows(self) -> int:
        """Answers."""
        return self.questions * self.count

    @property
    def tokens(self) -> float:
        """Of prompts and answers."""
        return self.questions * (self.prompt + self.count * self.answer)


def judged(answers: int, response_tokens: float, shard: int, *, twice: bool) -> Asked:
    """Answers that a model judges, without images; `twice`: the second prompt, counted with the first, follows each."""
    prompts = pace.JUDGE_FIRST + (pace.JUDGE_SECOND if twice else 0)
    return Asked(answers, 1, prompts + response_tokens, 0, pace.JUDGE_ANSWER, shard)


def loading(size: ModelSize, place: Place) -> float:
    """Seconds to read a model's weights from the node's disk, or to change its mask."""
    return 2 * size.parameters / pace.DISK


def engine_seconds(
    size: ModelSize, place: Place, asked: Asked, resources: EngineResources, max_model_len: int
) -> tuple[float, float]:
    """Seconds of one engine for all that is asked, and the FLOPs of it."""
    decoder = size.decoder
    pairs = asked.prompt**2 / 2
    prefill = asked.questions * (decoding(size, asked.prompt, pairs) + seeing(size.tower, asked.image))
    context = asked.prompt + asked.answer / 2
    answers = asked.rows * asked.answer
    per_token = decoding(size, 1, context) + 2 * decoder.head
    flops = prefill + answers * per_token
    devices = place.gpus or 1
    peak = place.kind.tflops * 1e12 * devices
    share = pace.PREFILL_SHARE if place.gpus else place.kind.train_share
    sequences = float(min(resources.max_num_seqs, asked.shard * asked.count))
    reading = 0.0
    if place.gpus:
        memory = engine_memory(
            size, max(1, int(devices)), place.kind.memory_gib, resources.gpu_memory_utilization, max_model_len
        )
        cached = context * decoder.kv_bytes
        sequences = max(1.0, min(sequences, memory.room * devices / cached))
        weights = size.parameters - decoder.asleep(sequences)
        reading = (2 * weights + sequences * cached) / (devices * place.kind.bandwidth * 1e9 * pace.DECODE_SHARE)
    occupied = sequences * pace.OCCUPANCY[resources.overlap]
    least = pace.GPU_STEP_SECONDS if place.gpus else pace.CPU_STEP_SECONDS
    step = least + max(reading, occupied * per_token / (peak * share))
    seconds = prefill / (peak * share) + answers / occupied * step
    if not place.gpus:  # images are read and resized by the same core
        seconds += asked.questions * asked.image * size.tower.token_pixels * pace.DECODE_PIXEL
    return seconds, flops
