"""The API server's webhook configuration, made from the template that users get."""

from tools import ROOT

TEMPLATE = ROOT / "deploy" / "webhook-kubeconfig.yaml"


def write_kubeconfig(path, server, cluster, token, authority=None):
    text = TEMPLATE.read_text()
    ca_line = "      certificate-authority: /etc/kubernetes/watchbell/ca.crt\n"
    replacements = {
        "https://watchbell.example.com:8080/ingest/audit/CLUSTER": f"{server}/ingest/audit/{cluster}",
        "token: TOKEN": f"token: {token}",
        ca_line: f"      certificate-authority: {authority}\n" if authority else "",
    }
    for placeholder, value in replacements.items():
        if text.count(placeholder) != 1:
            raise ValueError(f"{TEMPLATE} does not contain {placeholder!r} exactly once")
        text = text.replace(placeholder, value)
    path.write_text(text)
    path.chmod(0o600)
    return path
