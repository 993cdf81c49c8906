#!/usr/bin/env python3
"""Holds what clients saw acknowledged against what is on a disk.

    ledger_check.py DISK [LOG...] [--offset BYTES] [--show N]

DISK is the survivor's disk image (its ledger begins at --offset), each LOG is one of ledger_client.py. It checks that

  - the records from 1 on are intact and have no gap; only the last write of all may be torn (no one can have seen an
    answer for it), and nothing lies beyond;
  - each acknowledged request is the record whose number its answer named: else it is lost;
  - the requests of a TCP client stand in the order in which it sent them.

Details go to stderr, at most --show of a kind. The last line on stdout is `acknowledged=N lost=L duplicated=D`:
requests acknowledged, acknowledged requests that the disk lacks, and records of a request that the disk has already
(UDP: sent again, executed again). Exit code 0 if nothing is lost, damaged or out of order; 1 if so; 2 usage.
"""

import argparse
import collections
import errno
import json
import os
import sys

import ledger


class Findings:
    """What is wrong, counted by kind, with the first few of each in words."""

    def __init__(self, show):
        self.show = show
        self.counts = collections.Counter()

    def add(self, kind, text):
        self.counts[kind] += 1
        if self.counts[kind] <= self.show:
            print(f"ledger_check: {kind}: {text}", file=sys.stderr)


def read_ledger(file, offset, findings):
    """The intact records from 1 on."""
    records = []
    file.seek(offset)
    while True:
        raw = file.read(ledger.RECORD_BYTES)
        record, broken = ledger.parse(raw, len(records) + 1)
        if record is None:
            break
        records.append(record)
    check_rest(file, offset, len(records), broken, findings)
    return records


def check_rest(file, offset, count, broken, findings):
    """Beyond the end there is nothing but what a torn last write can leave."""
    end = os.lseek(file.fileno(), 0, os.SEEK_END)
    place = offset + count * ledger.RECORD_BYTES
    torn_end = place + ledger.BATCH_RECORDS_MAX * ledger.RECORD_BYTES
    file.seek(place)
    tail = file.read(torn_end - place)
    if tail.strip(b"\0"):
        print(f"ledger_check: the last write was torn: record {count + 1} is broken ({broken})", file=sys.stderr)
    beyond = first_content(file, torn_end, end)
    if beyond is not None:
        number = (beyond - offset) // ledger.RECORD_BYTES + 1
        findings.add("damaged", f"record {count + 1} is broken ({broken}), but there is content at the place of "
                                f"record {number}")


def first_content(file, place, end):
    """Where the first byte that is not zero lies; None if there is none. Passes over the holes of a sparse file."""
    chunk_bytes = 1 << 20
    while place < end:
        try:
            place = os.lseek(file.fileno(), place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            # Not a file system that knows holes: all of it is data.
        file.seek(place)
        chunk = file.read(chunk_bytes)
        stripped = chunk.lstrip(b"\0")
        if stripped:
            return place + len(chunk) - len(stripped)
        place += max(len(chunk), 1)
    return None


class Acknowledged:
    """One client's log."""

    def __init__(self, path):
        self.path = path
        self.transport = "tcp"
        self.answers = []  # (request, sequence)
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        # A client that was killed leaves its last line unfinished: no newline after it.
        for number, line in enumerate(lines[:-1], 1):
            try:
                entry = json.loads(line)
                if "transport" in entry:
                    self.transport = entry["transport"]
                elif "seq" in entry:
                    self.answers.append((entry["request"].encode(), entry["seq"]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                sys.exit(f"ledger_check: {path}:{number}: not a line of ledger_client.py: {error}")


def check_answers(log, records, findings):
    """The requests acknowledged, and those of them that the disk lacks."""
    acknowledged, lost = set(), set()
    last = 0
    for request, sequence in log.answers:
        acknowledged.add(request)
        text = request.decode(errors="replace")
        if not 1 <= sequence <= len(records):
            lost.add(request)
            findings.add("lost", f"{log.path}: `{text}` was acknowledged as record {sequence}; the disk has "
                                 f"{len(records)}")
        elif records[sequence - 1].payload != request:
            lost.add(request)
            found = records[sequence - 1].payload.decode(errors="replace")
            findings.add("lost", f"{log.path}: `{text}` was acknowledged as record {sequence}, which is `{found}`")
        if log.transport == "tcp":
            if sequence <= last:
                findings.add("order", f"{log.path}: record {sequence} was acknowledged after record {last}")
            last = sequence
    return acknowledged, lost


def check_order(logs, records, findings):
    """The requests `NAME NUMBER` of each TCP client ascend on the disk."""
    names = {log.answers[0][0].split(b" ")[0] for log in logs if log.transport == "tcp" and log.answers}
    last = {}
    for record in records:
        parts = record.payload.split(b" ")
        if len(parts) < 2 or parts[0] not in names or not parts[1].isdigit():
            continue
        number = int(parts[1])
        if number != last.get(parts[0], number - 1) + 1:
            findings.add("order", f"record {record.sequence} is `{record.payload.decode(errors='replace')}` after "
                                  f"number {last[parts[0]]}")
        last[parts[0]] = number


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("disk")
    parser.add_argument("logs", nargs="*", metavar="LOG")
    parser.add_argument("--offset", type=int, default=0, help="where the ledger begins in the image")
    parser.add_argument("--show", type=int, default=10, help="how many findings of a kind to print")
    options = parser.parse_args(argv)

    findings = Findings(options.show)
    try:
        with open(options.disk, "rb", buffering=0) as raw:
            records = read_ledger(raw, options.offset, findings)
        logs = [Acknowledged(path) for path in options.logs]
    except OSError as error:
        print(f"ledger_check: {error}", file=sys.stderr)
        return 2
    acknowledged, lost = set(), set()
    for log in logs:
        found, missing = check_answers(log, records, findings)
        acknowledged |= found
        lost |= missing
    check_order(logs, records, findings)
    duplicated = len(records) - len({record.payload for record in records})
    for kind, count in sorted(findings.counts.items()):
        print(f"ledger_check: {kind}: {count} in all", file=sys.stderr)
    print(f"records={len(records)} damaged={findings.counts['damaged']} out_of_order={findings.counts['order']}")
    print(f"acknowledged={len(acknowledged)} lost={len(lost)} duplicated={duplicated}")
    return 1 if findings.counts else 0


if __name__ == "__main__":
    sys.exit(main())
