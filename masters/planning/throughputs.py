"""How fast machines are, and how long things take that no arithmetic gives: each number with its source.

`measured` was measured with this code, `datasheet` is the maker's, `assumed` is neither: `masters plan --from RUN` replaces
what is measured or assumed here by what one of your own runs measured.
"""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Accelerator:
    """A GPU, or one core of a CPU.

    Attributes:
        tflops: dense bf16, the maker's peak; of a core fp32 products of small models.
        bandwidth: of its memory, GB/s.
        memory_gib: of it, as the driver reports.
        train_share: of the peak that a whole training step reaches, recomputation counted as work.
        source: where `train_share` is from.
    """

    name: str
    tflops: float
    bandwidth: float
    memory_gib: float
    train_share: float
    source: str


_H100 = "measured on one GPU (docs/gpu.md): 0.32 of its products' 726 TFLOP/s"
_A100 = "assumed: the H100's 0.32 of products that reach 0.85 of the peak"
_OTHER = "assumed: the H100's share"

CPU = Accelerator("CPU", 0.1, 10, 0, 0.8, "measured on tiny models, a core each")
ACCELERATORS = {
    kind.name: kind
    for kind in (
        Accelerator("A100-40G", 312, 1555, 39.5, 0.27, _A100),
        Accelerator("A100-80G", 312, 2039, 79.1, 0.27, _A100),
        Accelerator("H100", 989, 3350, 79.1, 0.235, _H100),
        Accelerator("H200", 989, 4800, 139.7, 0.235, _OTHER),
        Accelerator("B200", 2250, 8000, 178.0, 0.235, _OTHER),
        Accelerator("L4", 121, 300, 22.5, 0.235, _OTHER),
        Accelerator("L40S", 362, 864, 44.5, 0.235, _OTHER),
        Accelerator("A10G", 70, 600, 22.3, 0.235, _OTHER),
    )
}
"""By the names that Ray gives them, as `acceleratorType` of a worker group has it."""

DEFAULT = "A100-80G"
"""Where no values file names an accelerator."""

_ALIASES = {"A100": DEFAULT}

# Engines. Assumed, but where a source is named.
PREFILL_SHARE = 0.45  # of the peak
DECODE_SHARE = 0.7  # of the memory's bandwidth
OCCUPANCY = {False: 0.6, True: 0.9}  # of an engine's sequences, without and with resources.engine.overlap (scale.md B7)
ENGINE_WORKSPACE_GIB = 4.0  # of a GPU, beside weights and KV cache
CPU_STEP_SECONDS = 0.02  # of an engine's step on a core: measured on the tiny models
GPU_STEP_SECONDS = 0.004

# Judging by a model, tokens beside the response: the two prompts of Appendix D as they ship, the second with what was said to
# the first; what a judge says is assumed.
JUDGE_FIRST, JUDGE_SECOND, JUDGE_ANSWER = 310, 225, 100
ENDPOINT_SECONDS = 5.0  # of a request to one (assumed)

# Training. Groups of a step that a worker has -> how much of the time it computes (scale.md B2: simulated lengths).
BALANCE = {1: 0.49, 2: 0.67, 4: 0.82, 8: 0.91, 16: 0.95}
CPU_STEP, CPU_PASS = (
    0.055,
    0.03,
)  # seconds of a training step and of each pass, beside arithmetic: measured on tiny models
GPU_STEP, GPU_PASS = 0.3, 0.1  # assumed
SAVE_SECONDS = 0.5  # of a checkpoint, beside writing it

# Bytes per second. Assumed, but where a source is named.
NODE_NETWORK = 40e9  # between nodes: 400 Gb/s InfiniBand or EFA
NODE_LINK = 200e9  # between the GPUs of a node
DISK = 1e9  # of a node's own disk
HISTOGRAM = 2e9  # of a core that takes thresholds: measured (docs of masking)

# Rows per second of a core: measured on the tiny runs.
RULE_VERDICTS = 3000
PREPARE_ROW = 4e-4  # seconds
DECODE_PIXEL = 14e-9  # seconds; 12 to 16 ms for a photo
REPORT_ROW = 6e-5

# Seconds until a stage does its work: measured on the tiny runs for CPUs, assumed for GPUs.
RAY_START = 13.0  # Ray itself, which the first stage waits for
TASK_START = 4.0
ACTOR_START = 5.0
ENGINE_START = {False: 27.0, True: 150.0}
GANG_START = {False: 33.0, True: 180.0}
REPORT_START = 2.0


def accelerator(name: str) -> Accelerator | None:
    """By Ray's name; None for one that is not in the table. `A100` without a size is taken for one of 80 GB."""
    return ACCELERATORS.get(_ALIASES.get(name, name))


def balance(groups_per_worker: float) -> float:
    """Share of a step's time in which a worker computes, from how many groups it has to do in a step; in (0, 1]."""
    sizes = sorted(BALANCE)
    if groups_per_worker <= sizes[0]:
        return BALANCE[sizes[0]]
    for small, large in pairwise(sizes):
        if groups_per_worker <= large:
            part = (groups_per_worker - small) / (large - small)
            return BALANCE[small] + part * (BALANCE[large] - BALANCE[small])
    return BALANCE[sizes[-1]]
