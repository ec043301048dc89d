"""The scenarios of perf/peers: each one a row, or some, of what Umbra must reach."""

from . import bodies, chat, deaths, faults, fixed, idle, memory, mirror, p99, saturation, tls

SCENARIOS = {
    "saturation": saturation.run,
    "fixed": fixed.run,
    "mirror": mirror.run,
    "bodies": bodies.run,
    "memory": memory.run,
    "idle": idle.run,
    "faults": faults.run,
    "tls": tls.run,
    "p99": p99.run,
    "deaths": deaths.run,
    "chat": chat.run,
}
