"""A certificate authority for one run, by openssl."""

import subprocess
from pathlib import Path


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Authority:
    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.cert, self.key = self.directory / "ca.crt", self.directory / "ca.key"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
                 "-subj", "/CN=real-test-ca", "-keyout", self.key, "-out", self.cert,
                 "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign")

    def request(self, name, common_name, organization=None):
        """A new key and a signing request: their paths."""
        key, request = self.directory / f"{name}.key", self.directory / f"{name}.csr"
        subject = (f"/O={organization}" if organization else "") + f"/CN={common_name}"
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
                 "-keyout", key, "-out", request)
        return key, request

    def issue(self, name, common_name, organization=None, server=False):
        """A certificate for a client, or for a server on loopback: paths of certificate and key."""
        key, request = self.request(name, common_name, organization)
        cert, extensions = self.directory / f"{name}.crt", self.directory / f"{name}.ext"
        usage = "serverAuth" if server else "clientAuth"
        text = f"basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={usage}\n"
        if server:
            text += "subjectAltName=IP:127.0.0.1,DNS:localhost\n"
        extensions.write_text(text)
        _openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                 "-days", 2, "-extfile", extensions, "-out", cert)
        return cert, key

    def signing_pair(self, name):
        """A bare key pair, such as for service account tokens: paths of private and public key."""
        private, public = self.directory / f"{name}.key", self.directory / f"{name}.pub"
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private)
        _openssl("pkey", "-in", private, "-pubout", "-out", public)
        return private, public
