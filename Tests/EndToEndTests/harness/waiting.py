"""Bounded waits: a condition is polled, never slept for."""

import time

# The longest that anything which should happen "now" may take on a slow, shared machine.
PROMPT_S = 10.0


def wait_for(condition, what, timeout=PROMPT_S, every=0.01):
    """Polls until `condition()` is true and returns its value; fails naming `what`."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what() if callable(what) else what}")
        time.sleep(every)


def wait_for_standstill(count, what):
    """Until `count()` has not moved for 0.3 s."""
    last = [None]

    def stopped():
        before, last[0] = last[0], count()
        time.sleep(0.3)
        return before == last[0]

    wait_for(stopped, what)
