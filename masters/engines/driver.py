"""Whether a GPU's driver runs the CUDA that torch was built for. An engine that starts without dies with a message of CUDA's."""

import ctypes

_OLDEST = {11: 450, 12: 525, 13: 580}
"""The first driver of each CUDA release; it runs all minor releases of it, and all older ones."""


def check_installed() -> None:
    """Raise RuntimeError unless this machine's driver runs the torch that is installed."""
    import torch

    check(newest_cuda(), torch.version.cuda)


def newest_cuda() -> int:
    """The newest CUDA release that this machine's driver runs, as CUDA says it; 0 where there is no driver."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    found = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(found))
    return found.value


def check(driver: int, built: str | None) -> None:
    """Raise RuntimeError, with the remedy, unless a driver runs a build of torch.

    Args:
        driver: the newest CUDA release that it runs, as CUDA says it: 1000 * major + 10 * minor; 0 where there is none.
        built: the release that torch was built for, as 13.0; None for a build without CUDA.
    """
    if built is None:
        raise RuntimeError(
            "gpus_per_engine asks for GPUs, and torch was built without CUDA. Use the gpu image, or set gpus_per_engine: 0."
        )
    major = int(built.partition(".")[0])
    oldest = f"driver {_OLDEST[major]} or newer" if major in _OLDEST else "a newer driver"
    if driver == 0:
        raise RuntimeError(
            f"no NVIDIA driver is found, and torch was built for CUDA {built}. Install {oldest} on the nodes, and run the pods "
            "on nodes with GPUs."
        )
    if driver // 1000 < major:
        raise RuntimeError(
            f"the NVIDIA driver runs CUDA {driver // 1000}.{driver % 1000 // 10}, and torch was built for CUDA {built}. Install "
            f"{oldest} on the nodes, or build the image with a torch for CUDA {driver // 1000}."
        )
