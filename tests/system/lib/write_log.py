"""What a client wrote to a group of disks and what it was answered, and what a copy may hold after a crash.

A write covers one block of one disk and fills it with its number. The client never has two under way to one block, so the
writes of a block have an order. A copy is a crash-consistent prefix if it is what some instant of the primary's life could
have left: whenever it holds a write, it holds, in every block of every disk, everything that had been answered before that
write began, or something later."""

import struct

BLOCK = 4096


class Inconsistent(AssertionError):
    """A copy that no crash of a primary explains."""


def numbers_in(path):
    """Of each block, the number it is filled with."""
    with open(path, "rb") as image:
        data = image.read()
    found = []
    for block in range(len(data) // BLOCK):
        first = data[block * BLOCK:block * BLOCK + 8]
        if data[block * BLOCK:(block + 1) * BLOCK] != first * (BLOCK // 8):
            raise Inconsistent(f"{path}: block {block} is torn")
        found.append(struct.unpack("<Q", first)[0])
    return found


class WriteLog:
    def __init__(self):
        self.moment = 0
        self.began = {0: 0}      # number -> moment; 0: what was there at the start
        self.answered = {0: 0}
        self.of_block = {}       # (disk, block) -> numbers in their order

    def note(self, line):
        """A line of `nbd_load record`."""
        words = line.split()
        self.moment += 1
        if words[0] == "w":
            number, place = int(words[1]), (int(words[2]), int(words[3]))
            self.began[number] = self.moment
            self.of_block.setdefault(place, [0]).append(number)
        elif words[0] == "a":
            self.answered[int(words[1])] = self.moment

    def held(self, images):
        """(disk, block) -> number, of the blocks ever written; of the others it must be 0."""
        found = {}
        for disk, path in enumerate(images):
            for block, number in enumerate(numbers_in(path)):
                place = (disk, block)
                if place in self.of_block:
                    found[place] = number
                elif number != 0:
                    raise Inconsistent(f"{path}: block {block} holds {number}, and nothing was written there")
        for place, number in found.items():
            if number not in self.of_block[place]:
                raise Inconsistent(f"{images[place[0]]}: block {place[1]} holds {number}, which was not written there")
        return found

    def answered_and_lost(self, held):
        """Answered writes that the copy lacks, with nothing later in their place."""
        lost = []
        for place, number in held.items():
            numbers = self.of_block[place]
            lost += [later for later in numbers[numbers.index(number) + 1:] if later in self.answered]
        return lost

    def check_prefix(self, held):
        newest = max((self.began[number] for number in held.values()), default=0)
        for number in self.answered_and_lost(held):
            if self.answered[number] < newest:
                raise Inconsistent(
                    f"write {number} was answered at moment {self.answered[number]} and is not there, but one that began at {newest} is")

    def check_complete(self, held, what):
        lost = self.answered_and_lost(held)
        if lost:
            raise Inconsistent(f"{what}: {len(lost)} answered writes are not there, the first is {min(lost)}")

    def settle(self, held):
        """From here on this copy is what the disks are."""
        # What is older than a block's number is gone for good; what is newer never happened.
        self.of_block = {place: [number] for place, number in held.items()}
        self.began = {number: 0 for number in [0, *held.values()]}
        self.answered = dict(self.began)
