"""What perf/peers, perf/profile and perf/tune are made of. Python 3.11, standard library only."""
