"""The Triton kernels against the plain functions: without a GPU in Triton's interpreter, and compiled for one that is not here."""

import os
import subprocess
import sys

import pytest
import torch

from masters.algo.fused import masters_objective
from masters.algo.terms import Head, Objective, Responses

triton = pytest.importorskip("triton", reason="torch for CPUs comes without triton")

AGAINST_PLAIN = """
import itertools, sys, torch
from masters.algo import gradients, kernels
from masters.algo.gradients import Pull, Softmax
from masters.algo.terms import Divergence

device, reverse = sys.argv[1], Divergence("reverse_kl")
torch.manual_seed(0)
for dtype, kind, (rows, outside) in itertools.product(
    (torch.float64, torch.float32), kernels._KINDS, ((23, 0), (5000, 3))
):
    logits = 5 * torch.randn(3, rows + outside, dtype=dtype, device=device)
    other = 5 * torch.randn(3, rows + outside, dtype=dtype, device=device)
    logits[0, 0], other[0, 1], other[:, rows:] = 300, -300, float("nan")  # what lies behind the vocabulary is never read
    weight, gain = torch.rand(2, 3, dtype=dtype, device=device)
    target, divergence, found = torch.tensor([0, 1, rows - 1], device=device), Divergence(kind, 0.3), []
    for module in (gradients, kernels):
        student = Softmax(logits.clone(), module.normaliser(logits, rows + outside), rows + outside)
        others = [Softmax(x.clone(), module.normaliser(x, rows), rows) for x in (other, other)]
        measures = [module.measure(student, *pair) for pair in zip(others, (divergence, reverse))]
        pulls = [
            Pull(x.logits_TV, slope, weight * factor) for x, (_, slope), factor in zip(others, measures, (1.0, 0.1))
        ]
        found.append([student.normaliser_T, others[0].normaliser_T, *measures[0], others[0].logits_TV])
        for number in (0, 1, 2):
            found[-1].append(torch.full_like(logits, 7))
            module.gradient(student, pulls[:number], gain, target, found[-1][-1])
        module.gradient(student, pulls, gain, target, student.logits_TV)
        found[-1].append(student.logits_TV)
    bound = 1e-12 if dtype == torch.float64 else 3e-6
    for expected, result in zip(*found):
        assert (result - expected).abs().max() <= bound * expected.abs().max(), (dtype, kind, rows)
print("equal")
"""

COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from masters.algo import kernels

TYPES = {"columns": "i32", "rows": "i32", "target": "*i64"}

def build(kernel, **constants):
    constants["BLOCK"] = kernels._BLOCK
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "*fp32") for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    assert compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 8}).asm["cubin"]

build(kernels._normaliser)
for kind in kernels._KINDS.values():
    build(kernels._measure, KIND=kind, W=0.3, OUTSIDE=-25.0)
for number in range(3):
    build(kernels._gradient, PULLS=number)
print("compiled")
"""


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_in_the_interpreter_they_find_what_the_plain_functions_find():
    result = run(AGAINST_PLAIN, "cpu", TRITON_INTERPRET="1")
    assert result.stdout == "equal\n", result.stderr


@pytest.mark.slow
def test_they_compile_for_an_a100(tmp_path):
    result = run(COMPILED, TRITON_CACHE_DIR=str(tmp_path))
    assert result.stdout == "compiled\n", result.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_needs_a_cuda_gpu_kernels_find_what_the_plain_functions_find():
    result = run(AGAINST_PLAIN, "cuda")
    assert result.stdout == "equal\n", result.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("budget", [1 << 20, 1 << 30])
def test_needs_a_cuda_gpu_the_objective_in_bf16_is_that_of_float64(budget):
    torch.manual_seed(0)
    rows = (20_008, 20_000, 20_008)
    models = [Head(torch.randn(256, 64).cuda(), 0.7 * torch.randn(v, 64).cuda()) for v in rows]
    index = torch.arange(256).cuda() // 32
    responses = Responses(
        torch.randint(0, 20_000, (256,)).cuda(), index, torch.zeros(8).long().cuda(), (torch.arange(8) % 2.0).cuda()
    )
    objective, found = Objective(1.0, 0.1, "exact", False, 20_000, budget=budget), []
    for dtype in (torch.float64, torch.bfloat16):
        student, *others = (Head(*(part.bfloat16().to(dtype) for part in head)) for head in models)
        student = Head(*(part.requires_grad_() for part in student))
        loss, terms = masters_objective(student, *others, responses, objective, groups=1, norms=True)
        loss.backward()
        found.append((loss.detach(), terms.divergence_J, student.hidden_TH.grad, student.weight_VH.grad))
    for expected, result, bound in zip(*found, (1e-5, 1e-4, 2e-2, 2e-2), strict=True):
        assert (result - expected).abs().max() <= bound * expected.abs().max()
