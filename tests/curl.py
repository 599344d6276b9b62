#!/usr/bin/env python3
"""Stands in for curl where the machine has none: as much of it as the documentation uses, so that its commands can be tested."""

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path

STAND_IN = Path(__file__)


def main() -> int:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("url")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data", "--data-binary", dest="data")
    parser.add_argument("-s", "--silent", action="store_true")
    options = parser.parse_args()
    data = options.data
    if data is not None:
        data = Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()
    headers = dict(header.split(": ", 1) for header in options.header)
    request = urllib.request.Request(options.url, data, headers, method=options.request)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            sys.stdout.buffer.write(answer.read())
    except urllib.error.HTTPError as error:
        sys.stdout.buffer.write(error.read())  # curl shows an error's body and succeeds, unless told to --fail
    except urllib.error.URLError as error:
        sys.stderr.write(f"curl: {error.reason}\n")
        return 7
    return 0


if __name__ == "__main__":
    sys.exit(main())
