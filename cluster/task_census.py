"""What a node's process is made of right now, as one line for its log: asked for with SIGUSR1.

Tasks that nobody ends and objects that nobody drops grow from one line to the next; the kinds of tasks say where. While
nobody asks, nothing is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

KINDS_MAX: Final = 20


def census(kinds: Iterable[str], allocated_blocks: int) -> str:
    """`tasks=3 blocks=81234 kinds=Fetcher.run:2,serve:1`: the most frequent kinds first, the rest counted together.

    `kinds` has the qualified name of each task's coroutine; `allocated_blocks` is what `sys.getallocatedblocks` says.
    """
    counted = Counter(kinds)
    shown = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    words = [f"{kind}:{count}" for kind, count in shown[:KINDS_MAX]]
    rest = sum(count for _, count in shown[KINDS_MAX:])
    if rest:
        words.append(f"others:{rest}")
    return f"tasks={counted.total()} blocks={allocated_blocks} kinds={','.join(words)}"
