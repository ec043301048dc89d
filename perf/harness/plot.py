"""The sweep's picture: settings across, metrics down, one small plot each. gnuplot draws."""

import subprocess

from .processes import Fault
from .statistics import median

SETTINGS = ["workers", "ring_depth", "block_kib", "shadows"]
TITLES = {"workers": "workers", "ring_depth": "ring_depth", "block_kib": "block_bytes (KiB)",
          "shadows": "shadow processes"}


def draw(rows, metrics, path, work):
    """Writes an SVG: a dot for each combination, a line through the medians."""
    lines = [
        f"set terminal svg size {260 * len(SETTINGS)},{190 * len(metrics)} font 'sans-serif,11' background 'white' noenhanced",
        f"set output '{path}'",
        f"set multiplot layout {len(metrics)},{len(SETTINGS)} margins 0.07,0.98,0.1,0.97 spacing 0.055,0.06",
        "unset key", "set grid ytics lc rgb '#dddddd'", "set border 3", "set tics nomirror out"]
    for metric, title in metrics:
        # From zero: a difference must look as large as it is.
        top = max(max(row[metric] for row in rows) * 1.1, 0.01)
        for column, setting in enumerate(SETTINGS):
            values = sorted({row[setting] for row in rows})
            tics = ", ".join(f"'{value}' {place}" for place, value in enumerate(values))
            lines += [
                f"set xtics ({tics})", f"set xrange [-0.5:{len(values) - 0.5}]", f"set yrange [0:{top}]",
                f"set ylabel '{title if column == 0 else ''}' font ',9'",
                f"set xlabel '{TITLES[setting] if metric == metrics[-1][0] else ''}'",
                "plot '-' using 1:2 with points pt 7 ps 0.4 lc rgb '#88aacc', "
                "'-' using 1:2 with linespoints pt 7 ps 0.6 lw 2 lc rgb '#b03030'"]
            for place, value in enumerate(values):
                of = [row[metric] for row in rows if row[setting] == value]
                # Side by side, so that equal dots do not hide each other.
                lines += [f"{place + 0.3 * ((index + 0.5) / len(of) - 0.5)} {y}" for index, y in enumerate(of)]
            lines.append("e")
            lines += [
                f"{place} {median([row[metric] for row in rows if row[setting] == value])}"
                for place, value in enumerate(values)]
            lines.append("e")
    lines.append("unset multiplot")
    script = work / "tune.gnuplot"
    script.write_text("\n".join(lines) + "\n")
    done = subprocess.run(["gnuplot", str(script)], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Fault(f"gnuplot: {done.stderr.strip()[-500:]}")
    return path
