"""Sends records with fluent-logger, which knows no acknowledgement. Each line of standard input is a JSON list of records. A record
that could not be sent stays in the sender, which sends it before the next one."""

import json
import os
import sys

from fluent.sender import FluentSender


def main():
    sender = FluentSender("shop", host="127.0.0.1", port=int(os.environ["PORT"]))
    for line in sys.stdin:
        for record in json.loads(line):
            if not sender.emit("orders", record):
                print(f"kept, because of {sender.last_error}", file=sys.stderr, flush=True)
    sender.close()


if __name__ == "__main__":
    main()
