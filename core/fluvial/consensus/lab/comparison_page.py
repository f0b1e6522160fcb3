"""The page of a comparison: one file of HTML with its drawings, and a short text for the terminal. The same runs give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Final

from fluvial.consensus.lab.charts import ChartLine, LineChart, legend, number_text
from fluvial.consensus.lab.compare import Comparison, Point
from fluvial.consensus.lab.measures import SeedsSummary, Spread, troubled
from fluvial.consensus.lab.schedule import FaultSchedule
from fluvial.consensus.lab.space_time import space_time

_STYLE: Final = """
:root{--ink:#1c2024;--soft:#5c6670;--line:#d7dce1;--band:#f0e4d4;--page:#fff;--block:#e3ebf7;
--c0:#2a6fc9;--c1:#cf5a1c;--c2:#17875c;--c3:#8146b8;--c4:#a67c00;--c5:#b8325e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5b0;--line:#3a434c;--band:#3d3222;--page:#16191d;--block:#27364d;
--c0:#6ea8f5;--c1:#f0905a;--c2:#4fc596;--c3:#b98be6;--c4:#d8b13f;--c5:#f07a9f}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;max-width:1180px;padding:1rem 1.5rem 4rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-bottom:1px solid var(--line)}h3{font-size:1rem;margin:1rem 0 .2rem}
p{max-width:75ch}table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums;white-space:nowrap}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}th{color:var(--soft);font-weight:600}
.bad{color:var(--c5);font-weight:600}.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:0 2rem}
svg{width:100%;height:auto;display:block}svg.wide{min-width:800px}.scroll{overflow-x:auto}svg text{font-size:11px;fill:var(--soft)}
svg text.name{fill:var(--ink)}svg text.height{fill:var(--ink);font-weight:600}.line{fill:none;stroke-width:2}.guide{fill:none;stroke:var(--soft);stroke-dasharray:1 3}
svg text.guide{stroke:none;fill:var(--soft)}.band{fill:var(--band)}.grid{stroke:var(--line);stroke-width:1}.tick,.axis{stroke:var(--soft);fill:none}
.way{fill:none;stroke-width:1.2;opacity:.75}.commit{fill:var(--ink)}.block{fill:var(--block);stroke:var(--c0)}
.legend{font-size:13px;margin:.3rem 0}.key{margin-right:1.2rem;white-space:nowrap}.key svg{display:inline-block;width:26px;height:8px;margin-right:.4rem}
.key i{display:inline-block;width:14px;height:3px;margin-right:.4rem;vertical-align:middle}.none{color:var(--soft)}
"""


def page(comparison: Comparison) -> str:
    """The page as HTML, complete in itself."""
    names = " and ".join(comparison.algorithms)
    body = "".join(_sections(comparison))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(names)} compared</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        f"<h1>{escape(names)} compared</h1>\n{body}</body>\n</html>\n"
    )


def _sections(comparison: Comparison) -> Iterator[str]:
    yield (
        "<p>All runs are in virtual time: the same schedules, seeds and loads for each algorithm, and the same figures on every machine. δ is the "
        "real delay of a message, Δ the bound that the algorithms are told. Dots and lines have tooltips.</p>"
    )
    yield _table(comparison)
    yield _sizes(comparison)
    yield _loads(comparison)
    yield _faults(comparison)
    yield "<h2>Messages and commits of one run</h2><p>A line for each node, time to the right. A slanted line is a message, a dot a commit.</p>"
    for algorithm, title, passages in comparison.pictures:
        heading = f"{algorithm}: {title}"
        yield f'<h3>{escape(heading)}</h3><div class="scroll">{space_time(passages, heading)}</div>'


def _table(comparison: Comparison) -> str:
    head = (
        "schedule",
        "algorithm",
        "passed",
        "commit, δ",
        "99 %",
        "payment, ms",
        "99 %",
        "messages / block",
        "KB / block",
        "blocks / s",
        "payments / s",
        "longest gap, Δ",
        "recovery, Δ",
        "worst",
    )
    rows = "".join(_row(one) for one in comparison.rows)
    return (
        f"<h2>Schedules, {comparison.seeds} seed{'s' if comparison.seeds > 1 else ''} each</h2><table><thead><tr>"
        + "".join(f"<th>{escape(one)}</th>" for one in head)
        + f"</tr></thead><tbody>{rows}</tbody></table>"
        "<p>“commit” is the time from a proposal to its commit at a correct node, “payment” from its submission. “recovery” is the time from the "
        "end of a fault to the next commit at each correct node.</p>"
    )


def _row(one: SeedsSummary) -> str:
    if one.skipped:
        cells = [f"<td>{escape(one.schedule)}</td><td>{escape(one.algorithm)}</td>"]
        return f"<tr>{cells[0]}<td colspan=12>cannot be run: {escape(one.skipped)}</td></tr>"
    passed = f"{one.passed} of {one.runs}"
    mark = "" if one.passed == one.runs else ' class="bad"'
    values = [
        *_pair(one.delay, 2),
        *_pair(one.latency, 0),
        number_text(one.messages),
        number_text(None if one.bytes is None else one.bytes / 1000),
        number_text(one.blocks),
        number_text(one.payments),
        number_text(one.gap.worst),
        *_pair(one.recovery, 1),
    ]
    cells = [f"<td>{escape(one.schedule)}</td><td>{escape(one.algorithm)}</td><td{mark}>{passed}</td>"]
    return f"<tr>{cells[0]}" + "".join(f"<td>{value}</td>" for value in values) + "</tr>"


def _pair(values: Spread, digits: int) -> tuple[str, str]:
    return number_text(values.median, digits), number_text(values.worst, digits)


def _sizes(comparison: Comparison) -> str:
    sizes = sorted({point.at for points in comparison.sizes.values() for point in points})
    guides = [
        ChartLine(name="2n²", points=[(size, 2.0 * size * size) for size in sizes]),
        ChartLine(name="n", points=[(size, float(size)) for size in sizes]),
    ]
    return (
        "<h2>By the number of validators, when all is well</h2>"
        + legend(comparison.algorithms)
        + '<div class="grid2">'
        + _points_chart(comparison, comparison.sizes, "validators", "time to commit, δ", lambda one: one.delay.median)
        + _points_chart(
            comparison,
            comparison.sizes,
            "validators",
            "messages for each block",
            lambda one: one.messages,
            guides=guides,
        )
        + _points_chart(
            comparison,
            comparison.sizes,
            "validators",
            "KB for each block",
            lambda one: None if one.bytes is None else one.bytes / 1000,
            guides=[],
        )
        + _points_chart(comparison, comparison.sizes, "validators", "blocks in a second", lambda one: one.blocks)
        + "</div>"
    )


def _loads(comparison: Comparison) -> str:
    loads = sorted({point.at for points in comparison.loads.values() for point in points})
    offered = [ChartLine(name="offered", points=[(load, float(load)) for load in loads])]
    charts = (
        ("payments committed in a second", lambda one: one.payments, offered),
        ("time of a payment, ms (median)", lambda one: one.latency.median, None),
        ("KB for each block", lambda one: None if one.bytes is None else one.bytes / 1000, None),
    )
    drawn = "".join(
        _points_chart(
            comparison, comparison.loads, "payments submitted in a second", name, value, guides=guides, log=False
        )
        for name, value, guides in charts
    )
    return (
        "<h2>By the load, four validators, when all is well</h2>"
        + legend(comparison.algorithms)
        + f'<div class="grid2">{drawn}</div>'
    )


def _points_chart(
    comparison: Comparison,
    points: dict[str, tuple[Point, ...]],
    x: str,
    y: str,
    value: Callable[[SeedsSummary], float | None],
    *,
    guides: list[ChartLine] | None = None,
    log: bool = True,
) -> str:
    lines = []
    for number, name in enumerate(comparison.algorithms):
        found = [(float(one.at), at) for one in points[name] if (at := value(one.summary)) is not None]
        if found:
            lines.append(ChartLine(name=name, points=found, colour=number))
    chart = LineChart(
        about=f"{y} by {x}", x=x, y=y, lines=[*(guides or []), *lines], logarithmic=log and guides is not None
    )
    return f"<figure><figcaption><h3>{escape(y)}</h3></figcaption>{chart.svg()}</figure>"


def _faults(comparison: Comparison) -> str:
    charts = "".join(_commits(comparison, schedule) for schedule in comparison.schedules)
    return (
        "<h2>Blocks over time</h2><p>The first seed of each schedule, at the correct node that is furthest. Faults of the network and of correct nodes are "
        "shaded; liars act all the time.</p>" + legend(comparison.algorithms) + f'<div class="grid2">{charts}</div>'
    )


def _commits(comparison: Comparison, schedule: FaultSchedule) -> str:
    lines = []
    for one in comparison.rows:
        if one.schedule == schedule.name and one.first is not None:
            steps = [(0.0, 0.0)]
            for height, at_ms in enumerate(one.first.commits_ms, 1):
                steps += [(at_ms / 1000, height - 1.0), (at_ms / 1000, float(height))]
            steps.append((schedule.end_ms / 1000, float(one.first.height)))
            number = comparison.algorithms.index(one.algorithm)
            lines.append(ChartLine(name=one.algorithm, points=_thinned(steps), colour=number, marks=False))
    liars = len({role.node for role in schedule.byzantine})
    about = f"{schedule.validators} validators" + (
        f", {liars} of them lie" if liars > 1 else ", one of them lies" if liars else ""
    )
    bands = [(low / 1000, high / 1000) for low, high in troubled(schedule)]
    chart = LineChart(about=f"blocks over time, {schedule.name}", x="seconds", y="blocks", lines=lines, bands=bands)
    return f"<figure><figcaption><h3>{escape(schedule.name)} <small>({about})</small></h3></figcaption>{chart.svg()}</figure>"


def _thinned(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about a thousand steps; where many are left out, nobody would see them."""
    stride = max(1, len(steps) // 1_000)
    return steps[::stride] + steps[-1:]


def text(comparison: Comparison) -> str:
    """A table for the terminal."""
    head = (
        "schedule",
        "algorithm",
        "passed",
        "commit δ",
        "payment ms",
        "msg/block",
        "KB/block",
        "blocks/s",
        "gap Δ",
        "recovery Δ",
    )
    rows: list[tuple[str, ...]] = [head]
    for one in comparison.rows:
        if one.skipped:
            rows.append((one.schedule, one.algorithm, "skipped", *["–"] * 7))
            continue
        rows.append(
            (
                one.schedule,
                one.algorithm,
                f"{one.passed}/{one.runs}",
                number_text(one.delay.median, 2),
                number_text(one.latency.median, 0),
                number_text(one.messages),
                number_text(None if one.bytes is None else one.bytes / 1000),
                number_text(one.blocks),
                number_text(one.gap.worst),
                number_text(one.recovery.worst),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    sizes = [
        f"{name}, {point.at} validators: commit after {number_text(point.summary.delay.median, 2)} δ, "
        f"{number_text(point.summary.messages)} messages for each block"
        for name, points in comparison.sizes.items()
        for point in points
    ]
    return "\n".join([*(line.rstrip() for line in lines), "", *sizes]) + "\n"
