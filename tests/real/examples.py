"""The configurations of deploy/senders as users get them, with what is theirs filled in."""

from tools import ROOT

SENDERS = ROOT / "deploy" / "senders"


def fill(name, directory, replacements):
    """Writes the configuration into `directory`; each placeholder has to occur. Gives its path."""
    text = (SENDERS / name).read_text()
    for placeholder, value in replacements.items():
        if placeholder not in text:
            raise ValueError(f"deploy/senders/{name} does not contain {placeholder!r}")
        text = text.replace(placeholder, str(value))
    path = directory / name
    path.write_text(text)
    path.chmod(0o600)
    return path
