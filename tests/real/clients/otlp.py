"""Logs with the standard library through OpenTelemetry's SDK, which is told everything by its own environment variables
(OTEL_EXPORTER_OTLP_…, OTEL_RESOURCE_ATTRIBUTES). Each line of standard input is a JSON list of what is logged."""

import json
import logging
import os
import sys

from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor


def main():
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter()))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(LoggingHandler(logger_provider=provider))
    root.addHandler(logging.StreamHandler())
    for line in sys.stdin:
        for record in json.loads(line):
            log(record)
    provider.shutdown()


def exporter():
    if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    return OTLPLogExporter()


def log(record):
    logger = logging.getLogger("shop.orders")
    if "raised" not in record:
        logger.log(record.get("level", logging.INFO), record["message"], extra=record.get("extra"))
        return
    try:
        raise ValueError(record["raised"])
    except ValueError:
        logger.exception(record["message"])


if __name__ == "__main__":
    main()
