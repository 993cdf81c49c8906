#!/usr/bin/env python3
"""The channel alone on a line that breaks in every way, at random: numbered messages of all classes, both ways, each arrives once,
in order and whole; the session outlives it all; memory does not grow. Needs neither root nor KVM.

ANTIPODE_SOAK_SECONDS sets how long (60), ANTIPODE_SEED the faults; the long one is
    ANTIPODE_SOAK_SECONDS=900 python3 tests/system/channel_soak_test.py"""

import json
import os
import random
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, paths, process, wan  # noqa: E402  pylint: disable=wrong-import-position

SECONDS = float(os.environ.get("ANTIPODE_SOAK_SECONDS", "60"))
SEED = int(os.environ.get("ANTIPODE_SEED", str(random.SystemRandom().randrange(1 << 32))))
MEBIBYTE = 1 << 20

# Every kind of fault, alone and over one another, longer than the session's own patience of 5 s as well.
SCRIPT = """
repeat {
    choose {
        set a<->b delay_ms=0..80 jitter_ms=0..20 loss=0
        set a<->b loss=0.001..0.03 stall_ms=50..400
        set a<->b rate_mbytes=0.5..125
        set a<->b rate_mbytes=20..125 loss=0 stall_ms=0
        break all
        sequence {
            cut a<->b mode=hold
            wait 50ms..2s
            heal a<->b
        }
        sequence {
            cut a<->b mode=reset
            wait 50ms..1s
            heal a<->b
        }
        sequence {
            cut a->b mode=blackhole
            wait 100ms..7s
            heal a->b
        }
        sequence {
            cut b->a mode=blackhole
            wait 100ms..7s
            heal b->a
        }
        repeat 8 {
            break all
            wait 20ms..300ms
        }
    }
    wait 100ms..3s
}
"""


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class ChannelSoak(case.Case):
    def test_each_message_arrives_once_on_a_line_that_breaks(self):
        print(f"ANTIPODE_SEED={SEED}", flush=True)
        a, b, to_a, to_b = free_ports(4)
        line = self.owned(wan.Wan(None, self.path("wan.log"), seed=SEED))
        line.set("a<->b", delay_ms=5, rate_mbytes=125)
        line.do(f"forward tcp a->b 127.0.0.1:{to_b} 127.0.0.1:{b}")
        line.do(f"forward tcp b->a 127.0.0.1:{to_a} 127.0.0.1:{a}")
        soak = self.owned(process.Process("soak", [
            paths.program("channel_soak"), "--a-listen", f"tcp://127.0.0.1:{a}", "--b-listen", f"tcp://127.0.0.1:{b}",
            "--a-peer", f"tcp://127.0.0.1:{to_b}", "--b-peer", f"tcp://127.0.0.1:{to_a}", "--seconds", str(SECONDS),
            "--seed", str(SEED)], self.path("soak.log"), stdout=subprocess.PIPE, env={"ANTIPODE_LOG": "warn"}))
        self.assertEqual(soak.stdout.readline(), b"up\n", soak.output()[-2000:])
        self.script(line, SCRIPT)
        self.assertEqual(soak.stdout.readline(), b"drain\n", soak.output()[-2000:])
        self.script(line, "wait 1ms\n")
        line.heal("a<->b")
        line.set("a<->b", delay_ms=5, jitter_ms=0, loss=0, stall_ms=0, rate_mbytes=125)
        result = json.loads(soak.stdout.readline())
        code = soak.finished(60)
        print(json.dumps(result), flush=True)
        for end in (result["a"], result["b"]):
            self.assertEqual((end["lost"], end["repeated"], end["wrong"], end["missing"]), (0, 0, 0, 0))
            self.assertEqual(end["sessions"], 1, "a session was given up")
            self.assertEqual(end["garbage"], 0)
            self.assertGreater(min(end["received"]), 0)
            self.assertGreater(end["resumes"], 0, "nothing ever broke")
        self.assertEqual(code, 0, soak.output()[-2000:])
        self.assertLess(result["memory_second_half"] - result["memory_first_half"], 8 * MEBIBYTE, "memory still grew in the second half")

    def script(self, line, text):
        path = self.path("script.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        line.do(f"script {path}")


if __name__ == "__main__":
    case.main()
