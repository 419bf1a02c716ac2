"""A receiver of OTLP over HTTP that parses JSON strictly, with the official definitions of the messages.

Prints one line of JSON for its port, and one for each request: what it holds, or why it cannot be parsed.
"""

import gzip
import http.server
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics

MESSAGES = {
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
    "/v1/logs": (logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
}


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def number(point):
    return getattr(point, point.WhichOneof("value"))


def describe_metric(metric):
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    described = {"name": metric.name, "unit": metric.unit, "kind": kind, "points": []}
    if kind != "gauge":
        described["temporality"] = data.aggregation_temporality
    for point in data.data_points:
        assert 0 < point.start_time_unix_nano <= point.time_unix_nano, metric.name
        if kind == "histogram":
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1, metric.name
            assert sum(point.bucket_counts) == point.count, metric.name
            value = point.count
        else:
            value = number(point)
        described["points"].append({"attributes": attributes(point.attributes), "value": value})
    return described


def describe(message):
    if isinstance(message, metrics.ExportMetricsServiceRequest):
        (of_resource,) = message.resource_metrics
        (of_scope,) = of_resource.scope_metrics
        items = [describe_metric(metric) for metric in of_scope.metrics]
    else:
        (of_resource,) = message.resource_logs
        (of_scope,) = of_resource.scope_logs
        items = [
            {
                "body": record.body.string_value,
                "severity": record.severity_number,
                "event": record.event_name,
                "attributes": attributes(record.attributes),
            }
            for record in of_scope.log_records
        ]
    return {"resource": attributes(of_resource.resource.attributes), "items": items}


def report(line):
    print(json.dumps(line), flush=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            assert self.headers["content-type"] == "application/json"
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            request, response = MESSAGES[self.path]
            message = json_format.Parse(body, request(), ignore_unknown_fields=False)
            report({"path": self.path, **describe(message)})
            status, answer = 200, json_format.MessageToJson(response())
        except Exception as error:
            report({"path": self.path, "error": repr(error), "body": body.decode(errors="replace")})
            status, answer = 400, json.dumps({"code": 3, "message": repr(error)})
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
# The daemon of a test may end in the middle of a request.
server.handle_error = lambda *_: None
report({"port": server.server_port})
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
