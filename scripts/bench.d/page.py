"""The table of scripts/bench all, as text and as a page; and the curves, as pictures in the page. The page needs nothing else: no script, no link."""

import html as escape_html
import math

HEAD = ["name", "unit", "floor", "ours", "peers", "ratio"]


def shown(value):
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def peers(one):
    return ", ".join(f"{name} {shown(value)}" for name, value in one["peers"].items()) or "-"


def ratio(one):
    if one["ratio"] is None:
        return "-"
    return f"{one['ratio']:.2f}x" if one["ratio"] >= 0.1 else f"{one['ratio']:.3f}x"


def cells(rows, version):
    """The table's head, and its lines; the benchmark's name stands before the first of its own."""
    yield [*HEAD, f"last release's ({version})" if version else "last release's"]
    for one in rows:
        yield [f"{one['bench']}: {one['name']}", one["unit"], shown(one["floor"]), shown(one["ours"]), peers(one), ratio(one), shown(one.get("last_release"))]


def table(rows, version):
    lines = list(cells(rows, version))
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    left = {0, 1, 4}
    for line in lines:
        yield "  ".join(cell.ljust(width) if at in left else cell.rjust(width) for at, (cell, width) in enumerate(zip(line, widths))).rstrip()


STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #667085; --line: #d5dae3; --paper: #fff; --ours: #1f6feb; --bound: #98a2b3; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --dim: #98a2b3; --line: #344054; --paper: #14181f; --ours: #6ea8fe; --bound: #667085; --bad: #f97066; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
th:nth-child(1), td:nth-child(1), th:nth-child(2), td:nth-child(2), th:nth-child(5), td:nth-child(5) { text-align: left; }
.scroll { overflow-x: auto; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { color: var(--dim); } figcaption b { color: var(--ink); } .bad, figcaption .bad { color: var(--bad); }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); } .ours { stroke: var(--ours); fill: none; stroke-width: 2; } .dot { fill: var(--ours); }
.bound { stroke: var(--bound); fill: none; stroke-width: 1.5; stroke-dasharray: 5 4; }
"""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 300, 62, 14, 12, 44


def e(text):
    return escape_html.escape(str(text))


def short(value):
    for size, letter in [(1e9, "G"), (1e6, "M"), (1e3, "k")]:
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def decades(least, most):
    """Powers of ten around what is drawn, so that there are at least two of them."""
    low, high = math.floor(math.log10(least) + 1e-9), math.ceil(math.log10(most) - 1e-9)
    return list(range(low, max(high, low + 1) + 1))


def picture(curve):
    """The curve where both axes are logarithmic; dashed, its bound through the curve's second-last point, backwards and forwards."""
    points = curve["points"]
    xs, ys = decades(points[0][0], points[-1][0]), decades(min(y for _, y in points), max(y for _, y in points))
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x, y):
        return (LEFT + across * (math.log10(x) - xs[0]) / (xs[-1] - xs[0]), TOP + down * (ys[-1] - math.log10(y)) / (ys[-1] - ys[0]))

    def path(some):
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in some)

    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{e(curve["name"])}">']
    for power in xs:
        x, _ = at(10.0**power, 10.0 ** ys[0])
        out.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{short(10.0**power)}</text>')
    for power in ys:
        _, y = at(10.0 ** xs[0], 10.0**power)
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(10.0**power)}</text>')
    out.append(f'<text x="{LEFT + across / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{e(curve["unit"])}</text>')
    out.append(f'<text transform="translate(13 {TOP + down / 2:.0f}) rotate(-90)" text-anchor="middle">{e(curve["measured"])}</text>')
    # The bound through the point before the last: the last lies above it where the curve is worse.
    x0, y0 = points[-2]
    steps = [10.0 ** (xs[0] + (xs[-1] - xs[0]) * step / 200) for step in range(201)]
    grown = {"n log n": lambda x: x * math.log(max(x, 2)), "a constant": lambda x: 1}[curve["bound"]]
    bound = [(x, y0 * grown(x) / grown(x0)) for x in steps]
    inside = [at(x, y) for x, y in bound if 10.0 ** ys[0] <= y <= 10.0 ** ys[-1]]
    out.append(f'<polyline class="bound" points="{path(inside)}"><title>{e(curve["bound"])}</title></polyline>')
    out.append(f'<polyline class="ours" points="{path(at(x, y) for x, y in points)}"/>')
    for x, y in points:
        left, top = at(x, y)
        out.append(f'<circle class="dot" cx="{left:.1f}" cy="{top:.1f}" r="3.5"><title>{x:,} {e(curve["unit"])}: {shown(y)} {e(curve["measured"])}</title></circle>')
    out.append("</svg>")
    verdict = f'<span class="bad">worse than {curve["bound"]}</span>' if curve["worse"] else f'not worse than {curve["bound"]}'
    return (f'<figure>{"".join(out)}<figcaption><b>{e(curve["name"])}</b>: n<sup>{curve["exponent"]:.2f}</sup>, {verdict}; '
            f'{shown(points[0][1])} to {shown(points[-1][1])} {e(curve["measured"])}</figcaption></figure>')


def html(rows, version, left_out, late, curves, is_quick):
    head, *lines = cells(rows, version)
    body = "".join(f"<tr>{''.join(f'<td>{e(cell)}</td>' for cell in line)}</tr>" for line in lines)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Benchmarks</title>',
        f"<style>{STYLE}</style><h1>Benchmarks</h1>",
        f"<p>By <code>scripts/bench all{' --quick' if is_quick else ''}</code>. A ratio is ours to the floor, or to the best peer where there is no floor.</p>",
        f'<div class="scroll"><table><tr>{"".join(f"<th>{e(cell)}</th>" for cell in head)}</tr>{body}</table></div>',
    ]
    if late:
        parts.append(f'<h2>Missed</h2><ul class="bad">{"".join(f"<li>{e(what)}</li>" for what in late)}</ul>')
    if left_out:
        parts.append(f"<h2>Left out</h2><ul>{''.join(f'<li>{e(name)}: {e(why)}</li>' for name, why in left_out.items())}</ul>")
    parts.append("<h2>Growth</h2><p>Both axes are logarithmic. The exponent is the slope of the line that fits best. Dashed: n log n, or a constant, through the point before the "
                 "last; a curve is worse where its last point lies above. Instructions are those of a turn, by valgrind; times those of one processor.</p>")
    parts.append(f'<div class="curves">{"".join(picture(curve) for curve in curves)}</div></html>\n')
    return "\n".join(parts)
