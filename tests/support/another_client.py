"""Another client of a service under attack. It runs in a process of its own, so that it measures the service and not the attackers.

Arguments: the port, the seconds to go on, and an API key or "". It prints the seconds and the status of each answer as JSON.
"""

import json
import sys
import time
from http.client import HTTPConnection

PAUSE = 0.02  # seconds between two requests


def main(port: int, seconds: float, token: str) -> None:
    until, found = time.monotonic() + seconds, []
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **({"X-API-Key": token} if token else {})}
    while (begun := time.monotonic()) < until:
        connection.request("POST", "/predict", b'{"application": {}}', headers)
        answer = connection.getresponse()
        answer.read()
        found.append((time.monotonic() - begun, answer.status))
        time.sleep(PAUSE)
    print(json.dumps(found))  # noqa: T201 - its result


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
