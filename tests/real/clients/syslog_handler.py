"""Logs with the standard library's SysLogHandler over UDP. Each line of standard input is a JSON list of what is logged."""

import json
import logging
import logging.handlers
import os
import sys


def main():
    handler = logging.handlers.SysLogHandler(address=("127.0.0.1", int(os.environ["PORT"])))
    logger = logging.getLogger("shop")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for line in sys.stdin:
        for record in json.loads(line):
            handler.ident = record.get("ident", "")
            logger.log(record.get("level", logging.INFO), record["message"])
    logging.shutdown()


if __name__ == "__main__":
    main()
