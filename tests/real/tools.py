"""The programs the test needs: found, installed or built, once, and kept outside the checkout."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import Failure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("WATCHBELL_REAL_CACHE") or Path.home() / ".cache" / "watchbell-real")
EXIM = "/usr/sbin/exim4"
RSYSLOG, RSYSLOG_MODULES = "/usr/sbin/rsyslogd", Path("/usr/lib")
NO_SERVICES = Path("/usr/sbin/policy-rc.d")


def note(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def kube_binary():
    """The Kubernetes program of ./kube, built when its sources are not the ones of the cached build."""
    module = HERE / "kube"
    flags = _linker_flags(module)
    sources = sorted(module.glob("*.go")) + [module / "go.mod", module / "go.sum"]
    content = b"".join([flags.encode(), *(path.read_bytes() for path in sources)])
    return _cached("kube", content, lambda binary: _build_kube(module, flags, binary))


def _cached(name, content, make, lock="build"):
    """What `make` makes at the path that it is given, unless it was made of the same content before. Whoever takes the same lock
    makes one thing at a time."""
    made = CACHE / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{lock}.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not made.exists():
            make(made)
    return made


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
    _need("go", "golang-go")
    _download(["go", "list", "-deps", "."], cwd=module, stdout=subprocess.DEVNULL)
    partial = binary.with_suffix(".partial")
    subprocess.run(["nice", "go", "build", "-trimpath", "-ldflags", flags, "-o", partial, "."], cwd=module, check=True)
    partial.rename(binary)
    _keep_newest("kube-*", binary)


def watchbell_binary():
    """The release binary under test: WATCHBELL_BIN, or built from the sources as they are."""
    named = os.environ.get("WATCHBELL_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise Failure(f"WATCHBELL_BIN={named} is not an executable file")
        return Path(named).resolve()
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "watchbell"], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release" / "watchbell"


def kafka_libraries():
    """Kafka's own libraries, as ./kafka/pom.xml names them, by the ordinary Maven client."""
    for program, package in (("java", "default-jre-headless"), ("mvn", "maven"), ("kcat", "kcat")):
        _need(program, package)
    pom = HERE / "kafka" / "pom.xml"
    return _cached("kafka", pom.read_bytes(), lambda libraries: _fetch_kafka(pom, libraries), lock="kafka")


def _fetch_kafka(pom, libraries):
    note("fetching Kafka")
    partial = libraries.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    _download(command, stdout=subprocess.DEVNULL)
    partial.rename(libraries)


def collector_binary():
    """The OpenTelemetry Collector of ./collector, built by its own builder when its sources are not the ones of the
    cached build."""
    manifest = HERE / "collector" / "builder.yaml"
    return _cached("otelcol", manifest.read_bytes(), lambda binary: _build_collector(manifest.read_text(), binary))


def _build_collector(manifest, binary):
    note("building the OpenTelemetry Collector (about five minutes on two cores when nothing is cached)")
    _need("go", "golang-go")
    version = re.search(r"^  version: (\S+)$", manifest, re.MULTILINE).group(1)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        builder = ["go", "install", f"go.opentelemetry.io/collector/cmd/builder@v{version}"]
        _download(builder, env={**os.environ, "GOBIN": directory})
        output = Path(directory) / "sources"
        (Path(directory) / "builder.yaml").write_text(manifest.replace("dist:\n", f"dist:\n  output_path: {output}\n", 1))
        command = ["nice", f"{directory}/builder", "--config", "builder.yaml", "--ldflags", "-s -w"]
        _download(command, cwd=directory, stdout=subprocess.DEVNULL)
        (output / "otelcol").rename(binary)
    _keep_newest("otelcol-*", binary)


def client_packages():
    """The directory with the Python packages of ./clients/requirements.txt, for this Python, by the ordinary pip."""
    requirements = HERE / "clients" / "requirements.txt"
    key = requirements.read_bytes() + f"{sys.version_info[:2]} {sys.platform} {os.uname().machine}".encode()
    return _cached("clients", key, lambda packages: _fetch_packages(requirements, packages), lock="clients")


def _fetch_packages(requirements, packages):
    note("fetching the clients' libraries")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        _install("python3-pip")
    partial = packages.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _download([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--root-user-action=ignore",
               "--target", partial, "--requirement", requirements])
    partial.rename(packages)


def forward_binary():
    """The Go program of ./clients, built when its sources are not the ones of the cached build."""
    module = HERE / "clients"
    content = b"".join((module / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    return _cached("forward", content, lambda binary: _build_forward(module, binary))


def _build_forward(module, binary):
    note("building the client of Fluentd's forward protocol")
    _need("go", "golang-go")
    partial = binary.with_suffix(".partial")
    _download(["nice", "go", "build", "-trimpath", "-o", partial, "."], cwd=module)
    partial.rename(binary)
    _keep_newest("forward-*", binary)


def logger_binary():
    """The logger of util-linux, which Debian has in a package of its own."""
    _need("logger", "bsdutils")
    return shutil.which("logger")


def _download(command, **how):
    """Runs what fetches modules: a download may fail for a moment."""
    for _ in range(2):
        if subprocess.run(command, **how).returncode == 0:
            return
        time.sleep(5)
    subprocess.run(command, check=True, **how)


def _keep_newest(pattern, binary):
    """Of older builds one stays, for whoever goes back and forth."""
    others = sorted((path for path in CACHE.glob(pattern) if path != binary), key=os.path.getmtime)
    for old in others[:-1]:
        old.unlink()


def exim_binary():
    """Debian's exim4; installed when it is missing and we may."""
    if not os.path.exists(EXIM):
        _install("exim4-daemon-light")
    if os.geteuid() != 0:
        raise Failure("exim4 must be started by root, because it delivers as its own user")
    return EXIM


def rsyslog_binary():
    """Debian's rsyslogd with the modules that deploy/senders loads."""
    for module, package in (("imptcp", "rsyslog"), ("lmnsd_gtls", "rsyslog-gnutls"), ("omelasticsearch", "rsyslog-elasticsearch"),
                            ("omkafka", "rsyslog-kafka")):
        if not any(RSYSLOG_MODULES.glob(f"*/rsyslog/{module}.so")):
            _install(package)
    return RSYSLOG


def openssl():
    _need("openssl", "openssl")


def _need(program, package):
    if not shutil.which(program):
        _install(package)


def _install(package):
    """With apt-get; services that come with a package are not started."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"the Debian package {package} is needed")
    note(f"installing {package}")
    policy = None
    if not NO_SERVICES.exists():
        policy = NO_SERVICES
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    try:
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
            subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    finally:
        if policy:
            policy.unlink()
