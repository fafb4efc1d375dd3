"""Write an index beside each shard of a pattern: `python -m diffusion_lessons.data.index_shards PATTERN`.

Put the indexes where the shards are served from: then a remote shard need not be fetched to know its rows.
"""

import sys
from pathlib import Path

from diffusion_lessons.data.shard_files import addresses, is_remote
from diffusion_lessons.data.shard_index import BESIDE, indexed
from diffusion_lessons.support.console import guarded


def main(pattern: str) -> None:
    """Index the shards of a pattern on this machine, and say of each how many rows it has."""
    for address in addresses(pattern):
        if is_remote(address):
            raise ValueError(f"{address}: an index is written beside a shard on this machine")
        index = indexed(Path(address))
        index.save(Path(address + BESIDE))
        print(f"{address}: {len(index.rows)} rows", *index.faults, sep="; ")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m diffusion_lessons.data.index_shards 'data-{000..099}.tar'")
    guarded(lambda: main(sys.argv[1]))
