"""Medians and their intervals; no figure is reported without how far it may be off."""

import random
import statistics

RESAMPLES = 2000
SEED = 1


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def bootstrap_interval(values, share=0.95):
    """The percentile bootstrap interval of the median; (None, None) with fewer than three values.

    The resampling is seeded, so that one set of values always gives one interval.
    """
    values = [value for value in values if value is not None]
    if len(values) < 3:
        return None, None
    generator = random.Random(SEED)
    medians = sorted(
        statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    edge = (1 - share) / 2
    return medians[int(edge * RESAMPLES)], medians[min(RESAMPLES - 1, int((1 - edge) * RESAMPLES))]


def ratios(ours, theirs):
    """The ratio of each round; rounds in which either is missing are left out."""
    pairs = zip(ours, theirs)
    return [own / other for own, other in pairs if own is not None and other]
