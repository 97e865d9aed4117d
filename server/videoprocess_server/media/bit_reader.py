"""Reads a stranger's bits, most significant first, with the Exp-Golomb codes of ITU-T H.264 and H.265."""

from __future__ import annotations

from typing import Final

#: leading zeros of an Exp-Golomb code at most; its value has 32 bits
_MOST_ZEROS: Final = 32


class BitReader:
    """Reads bits one after another; every read ends, at the latest with the bytes.

    Args:
        data: to be read.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def number(self, bits: int) -> int:
        """Read an unsigned number of so many bits.

        Raises:
            EOFError: there are not so many.
        """
        if bits > self._left:
            raise EOFError
        self._left -= bits
        return self._bits >> self._left & ((1 << bits) - 1)

    def flag(self) -> bool:
        """Read one bit.

        Raises:
            EOFError: there is none.
        """
        return bool(self.number(1))

    def unsigned(self, most: int = (1 << 32) - 1) -> int:
        """Read ue(v).

        Args:
            most: that is allowed.

        Raises:
            EOFError: it goes on after the end.
            ValueError: it is no such code, or more than is allowed.
        """
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > _MOST_ZEROS:
                raise ValueError(zeros)
        value = (1 << zeros) - 1 + self.number(zeros)
        if value > most:
            raise ValueError(value)
        return value

    def signed(self) -> int:
        """Read se(v).

        Raises:
            EOFError: it goes on after the end.
            ValueError: it is no such code.
        """
        value = self.unsigned()
        return (value + 1) // 2 if value & 1 else -(value // 2)
