import torch

from masters.families.qwen2_5_vl import QWEN2_5_VL
from masters.models.chat import ChatProcessor
from masters.models.checkpoint import load_model
from masters.models.tiny import build_tokenizer
from masters.models.tiny_training import TinyRecipe, measure, train


def test_the_tokenizer_is_the_same_every_time():
    assert build_tokenizer().get_vocab() == build_tokenizer().get_vocab()


def test_a_few_steps_of_training_lower_the_loss_and_repeat_bit_for_bit(make_model):
    folder = make_model("student", 8, torch.float32)

    def losses_of_a_run():
        losses = []
        model = load_model(folder, torch.float32)
        train(
            model,
            ChatProcessor(folder, QWEN2_5_VL),
            TinyRecipe(12, seed=3, warmup=4),
            lambda _, loss: losses.append(loss),
        )
        return losses

    first = losses_of_a_run()
    assert first == losses_of_a_run()
    assert sum(first[-3:]) < 0.8 * sum(first[:3])


def test_the_shipped_teacher_is_better_than_the_shipped_student(trained):
    student, teacher = (measure(load_model(f, torch.float32), ChatProcessor(f, QWEN2_5_VL)) for f in trained)
    assert student["questions"] == 600
    assert 0.5 < student["accuracy"] < 0.75
    assert teacher["accuracy"] > 0.93
