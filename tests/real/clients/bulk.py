"""Sends documents with the Elasticsearch client, as the README shows it. Each line of standard input is a JSON list of documents;
each batch that was taken is written to the file CONFIRMED. CLIENT holds the client's arguments."""

import json
import os
import sys
import time

from elasticsearch import ApiError, Elasticsearch, TransportError, helpers

PAUSE_S = 0.5


def main():
    client = Elasticsearch(**json.loads(os.environ["CLIENT"]))
    # It ends here unless it is convinced that it talks to Elasticsearch.
    info = client.info()
    with open(os.environ["CONFIRMED"], "a", buffering=1, encoding="utf-8") as confirmed:
        print(json.dumps({"version": info["version"]["number"], "tagline": info["tagline"]}), file=confirmed)
        for line in sys.stdin:
            documents = json.loads(line)
            SEND[os.environ["HELPER"]](client, documents)
            print(json.dumps([document["message"] for document in documents]), file=confirmed)


def bulk(client, documents):
    """All of them, or an exception."""
    taken, _ = helpers.bulk(client, documents)
    if taken != len(documents):
        raise SystemExit(f"{taken} of {len(documents)} documents were taken")


def streaming_bulk(client, documents):
    """Until all of them are taken. The helper itself tries again only what is answered 429, and the client below it three times
    without a pause what breaks off; so people write this loop."""
    while True:
        try:
            for taken, item in helpers.streaming_bulk(client, documents, max_retries=5):
                if not taken:
                    raise SystemExit(f"refused: {item}")
            return
        except (ApiError, TransportError) as error:
            print(f"again, because of {error}", file=sys.stderr, flush=True)
            time.sleep(PAUSE_S)


SEND = {"bulk": bulk, "streaming_bulk": streaming_bulk}

if __name__ == "__main__":
    main()
