"""Build, once, the extension that DeepSpeed would compile when the first gang on CPU starts: python -m masters.engines.build."""

import os


def build_extension() -> None:
    """Shared-memory collectives for CPU; about 40 s with g++, then cached in the user's cache folder."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)


if __name__ == "__main__":
    build_extension()
