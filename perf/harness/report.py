"""Figures and rows, and how they are printed and kept."""

import json
from dataclasses import dataclass, field

from .statistics import bootstrap_interval, median


@dataclass
class Figure:
    """One measure of one proxy: a value for each round."""

    measure: str
    unit: str
    subject: str
    values: list = field(default_factory=list)

    @property
    def median(self):
        return median(self.values)


@dataclass
class Row:
    """A measure against the bar that it has to reach. Bars are 'at most' unless `at_least`.

    Where there is a value for each round the value is their median, with its interval.
    """

    measure: str
    unit: str
    bar: float = None
    stretch: float = None
    values: list = field(default_factory=list)
    at_least: bool = False
    note: str = ""

    @property
    def value(self):
        return median(self.values)

    @property
    def interval(self):
        return bootstrap_interval(self.values)

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        if self.reaches(self.stretch):
            return "stretch"
        if self.bar is None:
            return "-"
        return "met" if self.reaches(self.bar) else "MISSED"

    def reaches(self, bar):
        if bar is None or self.value is None:
            return False
        return self.value >= bar if self.at_least else self.value <= bar


class Result:
    """What one scenario found."""

    def __init__(self, name, title):
        self.name = name
        self.title = title
        self.figures = []
        self.rows = []
        self.notes = []
        self.faults = []

    def figure(self, measure, unit, subject):
        """The figure with this name, made where it is new."""
        for known in self.figures:
            if (known.measure, known.subject) == (measure, subject):
                return known
        made = Figure(measure, unit, subject)
        self.figures.append(made)
        return made

    def values(self, measure, subject):
        for known in self.figures:
            if (known.measure, known.subject) == (measure, subject):
                return known.values
        return []

    def row(self, measure, unit, values, bar=None, stretch=None, at_least=False, note=""):
        if isinstance(values, (int, float)) or values is None:
            values = [] if values is None else [values]
        self.rows.append(Row(measure, unit, bar, stretch, list(values), at_least, note))

    def figure_table(self):
        """Measures down, proxies across, the median of the rounds in each cell."""
        subjects = list(dict.fromkeys(figure.subject for figure in self.figures))
        measures = list(dict.fromkeys((figure.measure, figure.unit) for figure in self.figures))
        lines = [["median of the rounds", ""] + subjects]
        for measure, unit in measures:
            cells = []
            for subject in subjects:
                values = self.values(measure, subject)
                cells.append(number(median(values)))
            lines.append([measure, unit] + cells)
        return lines

    def row_table(self):
        lines = [["measure", "value", "95 % interval", "bar", "stretch", "verdict"]]
        for row in self.rows:
            low, high = row.interval
            sign = "≥" if row.at_least else "≤"
            lines.append([
                row.measure, f"{number(row.value)} {row.unit}".strip(),
                "" if low is None else f"{number(low)}–{number(high)}",
                "" if row.bar is None else f"{sign} {number(row.bar)}",
                "" if row.stretch is None else f"{sign} {number(row.stretch)}",
                row.verdict + (f" ({row.note})" if row.note else "")])
        return lines

    def text(self):
        parts = [f"\n{self.title}\n"]
        if self.figures:
            parts.append(plain_table(self.figure_table()))
        if self.rows:
            parts.append(plain_table(self.row_table()))
        parts += [f"note: {note}\n" for note in self.notes]
        parts += [f"check failed: {fault}\n" for fault in self.faults]
        return "\n".join(parts)

    def markdown(self, machine):
        versions = ", ".join(f"{name}: {text}" for name, text in machine["versions"].items())
        parts = [
            f"# {self.title}\n",
            f"{machine['date']}, commit {machine['commit']}  ",
            f"{machine['cpus']} × {machine['cpu']}, {machine['memory_mib']} MiB, "
            f"{machine['system']}, Linux {machine['kernel']}  ",
            f"{versions}  ",
            f"`{machine['command']}`\n",
        ]
        if self.rows:
            parts.append(markdown_table(self.row_table()))
        if self.figures:
            parts.append(markdown_table(self.figure_table()))
        parts += [f"- {note}" for note in self.notes]
        parts += [f"- **check failed:** {fault}" for fault in self.faults]
        return "\n".join(parts) + "\n"

    def json(self, machine):
        return {
            "scenario": self.name, "title": self.title, "machine": machine,
            "rows": [{
                "measure": row.measure, "unit": row.unit, "value": row.value,
                "interval_95": list(row.interval), "bar": row.bar, "stretch": row.stretch,
                "at_least": row.at_least, "verdict": row.verdict, "note": row.note,
                "values": row.values} for row in self.rows],
            "figures": [{
                "measure": figure.measure, "unit": figure.unit, "subject": figure.subject,
                "median": figure.median, "values": figure.values} for figure in self.figures],
            "notes": self.notes, "faults": self.faults}

    def save(self, directory, machine):
        """Writes DATE-NAME.json and .md; a result of the same day and name is replaced."""
        directory.mkdir(parents=True, exist_ok=True)
        stem = f"{machine['date'][:10]}-{self.name}"
        (directory / f"{stem}.json").write_text(
            json.dumps(self.json(machine), indent=1, ensure_ascii=False) + "\n")
        (directory / f"{stem}.md").write_text(self.markdown(machine))
        return directory / f"{stem}.md"


def number(value):
    """Three significant digits or so, as a person would write it."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1 or size == 0:
        return f"{value:.2f}".rstrip("0").rstrip(".") if size == 0 else f"{value:.2f}"
    return f"{value:.3f}"


def plain_table(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    out = []
    for index, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])]
        cells += [
            cell.ljust(width) if column in (1,) and index >= 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line[1:], widths[1:]), start=1)]
        out.append("  ".join(cells).rstrip())
        if index == 0:
            out.append("-" * len(out[0]))
    return "\n".join(out) + "\n"


def markdown_table(lines):
    out = ["| " + " | ".join(lines[0]) + " |", "|" + "---|" * len(lines[0])]
    out += ["| " + " | ".join(line) + " |" for line in lines[1:]]
    return "\n".join(out) + "\n"
