"""The programs the test needs: found, installed or built, once, and kept outside the checkout."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from processes import Failure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("WATCHBELL_REAL_CACHE") or Path.home() / ".cache" / "watchbell-real")
EXIM = "/usr/sbin/exim4"


def note(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def kube_binary():
    """The Kubernetes program of ./kube, built when its sources are not the ones of the cached build."""
    if not shutil.which("go"):
        raise Failure("go is needed to build tests/real/kube")
    module = HERE / "kube"
    flags = _linker_flags(module)
    sources = sorted(module.glob("*.go")) + [module / "go.mod", module / "go.sum"]
    digest = hashlib.sha256(b"".join([flags.encode(), *(path.read_bytes() for path in sources)])).hexdigest()[:16]
    binary = CACHE / f"kube-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _build_kube(module, flags, binary)
    return binary


def _linker_flags(module):
    """The version that servers and user agents tell, as in released binaries."""
    major, minor, patch = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", (module / "go.mod").read_text()).groups()
    flags = ["-s -w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor, "gitCommit": "0" * 40}
        flags += [f"-X {package}.{name}={value}" for name, value in values.items()]
    return " ".join(flags)


def _build_kube(module, flags, binary):
    note("building Kubernetes (about ten minutes on two cores when nothing is cached)")
    partial = binary.with_suffix(".partial")
    subprocess.run(["nice", "go", "build", "-trimpath", "-ldflags", flags, "-o", partial, "."], cwd=module, check=True)
    partial.rename(binary)
    others = sorted((path for path in CACHE.glob("kube-*") if path != binary), key=os.path.getmtime)
    for old in others[:-1]:
        old.unlink()


def watchbell_binary():
    """The release binary under test: WATCHBELL_BIN, or built here."""
    named = os.environ.get("WATCHBELL_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise Failure(f"WATCHBELL_BIN={named} is not an executable file")
        return Path(named).resolve()
    binary = ROOT / "target" / "release" / "watchbell"
    if not binary.exists():
        note("building watchbell")
        subprocess.run(["cargo", "build", "--release", "-p", "watchbell"], cwd=ROOT, check=True)
    return binary


def exim_binary():
    """Debian's exim4; installed when it is missing and we may."""
    if not os.path.exists(EXIM):
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise Failure("exim4 is needed (Debian package exim4-daemon-light)")
        note("installing exim4-daemon-light")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "exim4-daemon-light"]
        if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
            subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(install, env=environment, check=True, stdout=subprocess.DEVNULL)
    if os.geteuid() != 0:
        raise Failure("exim4 must be started by root, because it delivers as its own user")
    return EXIM
