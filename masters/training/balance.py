"""Who takes which groups through the models when: ZeRO-3 makes all ranks wait for the longest micro-batch of each pass.

So a pass takes groups of about equal length, and inside it they are dealt so that the ranks have about the same to do. Every
machine computes the same deal from the same lengths.
"""

from collections.abc import Sequence


def deal(lengths: Sequence[int], ranks: int, most_groups: int, most_tokens: int = 0) -> list[list[list[int]]]:
    """Passes of a step: for each pass and rank the places of its groups; a rank may have none, where there are too few.

    Args:
        lengths: tokens of each group, images, prompt and responses.
        ranks: of the gang.
        most_groups: of one rank in one pass.
        most_tokens: likewise, 0 for any number; a group that is longer goes alone.
    """
    left = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    passes = []
    while left:
        dealt, left = _one_pass(left, lengths, ranks, most_groups, most_tokens)
        passes.append(dealt)
    return passes


def _one_pass(
    left: Sequence[int], lengths: Sequence[int], ranks: int, most_groups: int, most_tokens: int
) -> tuple[list[list[int]], list[int]]:
    """Longest first to the rank with the least to do, until the next one fits nowhere; and what is left."""
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for number, place in enumerate(left):
        fitting = [
            rank
            for rank in range(ranks)
            if not dealt[rank]
            or (len(dealt[rank]) < most_groups and tokens[rank] + lengths[place] <= (most_tokens or float("inf")))
        ]
        if not fitting:
            return dealt, list(left[number:])
        rank = min(fitting, key=lambda rank: (tokens[rank], rank))
        dealt[rank].append(place)
        tokens[rank] += lengths[place]
    return dealt, []


def efficiency(passes: Sequence[Sequence[Sequence[int]]], lengths: Sequence[int]) -> float:
    """Share of the time in which a rank computes and does not wait, if time goes with tokens: in (0, 1]."""
    tokens = [[sum(lengths[place] for place in mine) for mine in dealt] for dealt in passes]
    longest = sum(max(ranks) for ranks in tokens)
    return sum(map(sum, tokens)) / (longest * len(passes[0])) if longest else 1.0
