"""Starts one Kafka broker on loopback, prints where it is, and stops it when standard input ends: for benchmarks."""

import sys
import tempfile
from pathlib import Path

from broker import Kafka
from pki import Authority
from tools import kafka_libraries, openssl


def main():
    openssl()
    libraries = kafka_libraries()
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        kafka = Kafka(libraries, Path(directory) / "kafka", Authority(Path(directory) / "pki"))
        try:
            kafka.start()
            print(kafka.plain, flush=True)
            sys.stdin.read()
        finally:
            kafka.kill()


main()
