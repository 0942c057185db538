import pytest
from pydantic import ValidationError

from masters.config.models import ModelConfig, TeacherConfig


@pytest.mark.parametrize(("written", "read"), [(0, 0), (0.5, 0.5), (0.25, 0.25), (1, 1), (4, 4), (2.0, 2)])
def test_engines_take_whole_gpus_or_part_of_one(written, read):
    gpus = ModelConfig(path="m", gpus_per_engine=written).gpus_per_engine
    assert (gpus, type(gpus)) == (read, type(read))


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (ModelConfig, {"gpus_per_engine": 1.5}, "neither a whole number nor a fraction of one GPU"),
        (ModelConfig, {"gpus_per_engine": -0.5}, "greater than or equal to 0"),
        (ModelConfig, {"gpus_per_engine": True}, "gpus_per_engine"),
        (ModelConfig, {"quantization": "awq"}, "fp8_per_tensor"),
        (
            TeacherConfig,
            {"alias": "t", "quantization": "mxfp8"},
            "a teacher is masked, which needs the weights of its checkpoint",
        ),
    ],
)
def test_what_no_engine_could_do_is_refused(model, fields, message):
    with pytest.raises(ValidationError, match=message):
        model(path="m", **fields)


def test_a_student_may_be_quantised():
    assert ModelConfig(path="m", quantization="fp8_per_block").quantization == "fp8_per_block"
