"""How the numbers of many long vectors are read: in blocks of columns, of a size that does not depend on who reads."""

from __future__ import annotations

from dataclasses import dataclass

# Bytes of a block of all vectors in float32, and numbers of a vector in one at most and at least: what is read of a file at
# once is long enough for a disk, and all of it far smaller than a vector of millions.
_BYTES, _MOST, _LEAST = 2**26, 2**18, 2**12
# Numbers of all vectors in float64 at a time: 16 MiB.
_NUMBERS = 2**18
# Sums of neighboring blocks that are added up one after the other; such a leaf is what a rank has all of.
_LEAVES = 256


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns 0 to size - 1 of vectors that are rows, in blocks, and blocks in leaves.

    Attributes:
        size: Numbers in a vector.
        num_rows: How many vectors there are.

    Example:
        >>> columns = Columns(size=1_000_000, num_rows=300)
        >>> columns.block, columns.num_leaves, columns.leaf(30)
        (32768, 31, [(983040, 1000000)])
        >>> [columns.of_rank(rank, 2) for rank in range(2)]
        [range(0, 15), range(15, 31)]
    """

    size: int
    num_rows: int

    @property
    def block(self) -> int:
        """Columns in a block, but for the last."""
        fitting = max(1, _BYTES // (4 * max(1, self.num_rows)))
        return min(_MOST, max(_LEAST, 1 << (fitting.bit_length() - 1)))

    @property
    def chunk(self) -> int:
        """Columns of a block that are in float64 at a time."""
        fitting = max(1, _NUMBERS // max(1, self.num_rows))
        return min(self.block, max(512, 1 << (fitting.bit_length() - 1)))

    @property
    def _blocks_per_leaf(self) -> int:
        return max(1, -(-self._num_blocks // _LEAVES))

    @property
    def _num_blocks(self) -> int:
        return -(-self.size // self.block)

    @property
    def num_leaves(self) -> int:
        """Number of leaves."""
        return -(-self._num_blocks // self._blocks_per_leaf)

    def leaf(self, number: int) -> list[tuple[int, int]]:
        """First column, and one past the last, of each block of a leaf."""
        first = number * self._blocks_per_leaf
        last = min(first + self._blocks_per_leaf, self._num_blocks)
        return [(each * self.block, min((each + 1) * self.block, self.size)) for each in range(first, last)]

    def of_rank(self, rank: int, size: int) -> range:
        """The leaves of one of `size` ranks: neighbors."""
        return range(rank * self.num_leaves // size, (rank + 1) * self.num_leaves // size)

    def extent(self, leaves: range) -> tuple[int, int]:
        """First column, and one past the last, of neighboring leaves."""
        if not leaves:
            return 0, 0
        return self.leaf(leaves[0])[0][0], self.leaf(leaves[-1])[-1][1]
