#!/usr/bin/env python3
"""The model that judges copies of replicated disks, and a short campaign of kills with it (tests/system/disk_campaign has more)."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import case, disk_campaign, replicated_disk, requirements  # noqa: E402  pylint: disable=wrong-import-position
from lib.write_log import BLOCK, Inconsistent, WriteLog  # noqa: E402  pylint: disable=wrong-import-position

requirements.require(replicated_disk.missing_tools())
ROUNDS = int(os.environ.get("ANTIPODE_ROUNDS", "9"))  # each mode with each mishap


class Model(case.Case):
    """What the model must refuse: else the campaign proves nothing."""

    def setUp(self):
        super().setUp()
        self.log = WriteLog()
        for line in ("w 1 0 0", "a 1", "w 2 0 1", "w 3 1 0", "a 3", "a 2", "w 4 0 0"):
            self.log.note(line)

    def held(self, *disks):
        images = []
        for index, blocks in enumerate(disks):
            path = self.path(f"{index}.img")
            with open(path, "wb") as file:
                for number in blocks:
                    file.write(number.to_bytes(8, "little") * (BLOCK // 8))
            images.append(path)
        return self.log.held(images)

    def test_every_instant_is_a_prefix(self):
        for disks in (([0, 0], [0]), ([1, 0], [0]), ([1, 2], [0]), ([1, 0], [3]), ([1, 2], [3]), ([4, 2], [3])):
            self.log.check_prefix(self.held(*disks))

    def test_a_gap_in_one_disk_is_none(self):
        with self.assertRaisesRegex(Inconsistent, "write 1 was answered"):
            self.log.check_prefix(self.held([0, 2], [0]))

    def test_a_gap_between_the_disks_of_a_group_is_none(self):
        with self.assertRaisesRegex(Inconsistent, "write 3 was answered"):
            self.log.check_prefix(self.held([4, 2], [0]))

    def test_an_answered_write_that_is_missing_is_named(self):
        with self.assertRaisesRegex(Inconsistent, "1 answered writes"):
            self.log.check_complete(self.held([1, 2], [0]), "the copy")

    def test_what_was_never_written_is_refused(self):
        with self.assertRaisesRegex(Inconsistent, "not written there"):
            self.held([2, 2], [3])
        with self.assertRaisesRegex(Inconsistent, "nothing was written there"):
            self.held([1, 2], [3, 7])

    def test_a_torn_block_is_refused(self):
        path = self.path("torn.img")
        with open(path, "wb") as file:
            file.write(b"\1" * 512 + bytes(BLOCK - 512))
        with self.assertRaisesRegex(Inconsistent, "torn"):
            self.log.held([path])


class ShortCampaign(case.Case):
    def test_rounds(self):
        campaign = disk_campaign.Campaign(self, self.folder)
        for index in range(ROUNDS):
            campaign.play(disk_campaign.Round(1, index))
        self.assertEqual(campaign.counts["equal"], ROUNDS)
        self.assertGreater(campaign.counts["prefixes"], 0)


if __name__ == "__main__":
    case.main()
