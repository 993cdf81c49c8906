"""The ledger as tests/guests/ledger_format.h defines it, and the answers that refer to it.

The format is written down there; this is a second implementation, so that the checker shares no code with what it
checks.
"""

import re
import struct

RECORD_BYTES = 512
PAYLOAD_BYTES_MAX = 480
MAGIC = 0x474C5041
HEADER = struct.Struct("<IIQQQ")
WORDS = struct.Struct("<64Q")
CHECKSUM_WORD = 3
MASK = (1 << 64) - 1

# Requests that are there at the same time share one write: this many records at the end may be torn.
BATCH_RECORDS_MAX = 32

ANSWER = re.compile(rb"(.*) seq=(\d+)(?: uptime_ms=(\d+))?", re.DOTALL)


class Record:
    """An intact record."""

    def __init__(self, sequence, guest_time_ms, payload):
        self.sequence = sequence
        self.guest_time_ms = guest_time_ms
        self.payload = payload


def checksum(raw):
    hashed = 0xCBF29CE484222325
    for index, word in enumerate(WORDS.unpack(raw)):
        if index == CHECKSUM_WORD:
            word = 0
        hashed = ((hashed ^ word) * 0x100000001B3) & MASK
        hashed ^= hashed >> 32
    return hashed


def pack(sequence, guest_time_ms, payload):
    """The 512 bytes of a record, as a guest writes them."""
    padded = payload.ljust(PAYLOAD_BYTES_MAX, b"\0")
    raw = HEADER.pack(MAGIC, len(payload), sequence, guest_time_ms, 0) + padded
    return raw[:24] + struct.pack("<Q", checksum(raw)) + raw[32:]


def parse(raw, sequence):
    """(Record, None) if raw is record number `sequence`, else (None, the broken rule)."""
    if len(raw) != RECORD_BYTES:
        return None, "cut off"
    magic, payload_bytes, found, guest_time_ms, summed = HEADER.unpack_from(raw)
    if magic != MAGIC:
        return None, "magic"
    if payload_bytes > PAYLOAD_BYTES_MAX:
        return None, "payload_bytes"
    if summed != checksum(raw):
        return None, "checksum"
    if found != sequence:
        return None, "sequence"
    if any(raw[HEADER.size + payload_bytes:]):
        return None, "padding"
    return Record(found, guest_time_ms, raw[HEADER.size:HEADER.size + payload_bytes]), None


def parse_answer(line):
    """(request, sequence, uptime_ms or None) of an answer without its newline; None if it is none."""
    match = ANSWER.fullmatch(line)
    if not match:
        return None
    uptime = match.group(3)
    return match.group(1), int(match.group(2)), None if uptime is None else int(uptime)
