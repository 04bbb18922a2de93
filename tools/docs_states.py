"""The state machine, drawn from the table of transitions: a picture, and the table itself."""

from __future__ import annotations

import math
from html import escape

from acode_vllm.vocabulary.states import TRANSITIONS, ServiceState, Trigger

WIDTH, HEIGHT = 860, 560
CENTRE, RADIUS = (330, 285), 225
BOX = (104, 36)
COLOURS: dict[Trigger, str] = {
    Trigger.START: "#1f77b4",
    Trigger.HEALTHY: "#2ca02c",
    Trigger.UNHEALTHY: "#ff7f0e",
    Trigger.EXITED: "#d62728",
    Trigger.RESTART: "#9467bd",
    Trigger.GIVE_UP: "#8c564b",
    Trigger.STOP: "#7f7f7f",
    Trigger.GONE: "#17a2b8",
}
"""One for each trigger; a trigger without a colour fails the build."""


def states_svg() -> str:
    """Every state on a circle, every transition an arrow in the colour of its trigger; one SVG element."""
    places = {state: _on_circle(index / len(ServiceState), *CENTRE, RADIUS) for index, state in enumerate(ServiceState)}
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg"'
        ' style="max-width:100%;font:13px sans-serif"><title>States of a service</title><defs>'
    ]
    parts += [_arrow_head(trigger) for trigger in Trigger]
    parts.append("</defs>")
    parts += [_arrow(places, old, trigger, new) for (old, trigger), new in TRANSITIONS.items()]
    parts += [_box(state, *place) for state, place in places.items()]
    for row, trigger in enumerate(Trigger):
        y = 60 + 24 * row
        line = (
            f'<path d="M690 {y} h40" stroke="{COLOURS[trigger]}" stroke-width="2" marker-end="url(#{trigger.value})"/>'
        )
        parts.append(f'{line}<text x="744" y="{y + 4}" fill="currentColor">{trigger.value}</text>')
    parts.append("</svg>")
    return "".join(parts) + "\n"


def states_table() -> str:
    """Rows are states, columns triggers, cells the state that follows; an empty cell changes nothing."""
    head = "| From | " + " | ".join(trigger.value for trigger in Trigger) + " |"
    rows = [head, "|---" * (len(Trigger) + 1) + "|"]
    for state in ServiceState:
        cells = (TRANSITIONS.get((state, trigger)) for trigger in Trigger)
        rows.append(f"| **{state.value}** | " + " | ".join(cell.value if cell else "" for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _on_circle(turn: float, x: float, y: float, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * turn - math.pi / 2
    return x + 1.25 * radius * math.cos(angle), y + radius * math.sin(angle)


def _arrow_head(trigger: Trigger) -> str:
    shape = f'<path d="M0 0 L8 4 L0 8 z" fill="{COLOURS[trigger]}"/>'
    size = 'markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" refX="8" refY="4" orient="auto"'
    return f'<marker id="{trigger.value}" {size}>{shape}</marker>'


def _arrow(
    places: dict[ServiceState, tuple[float, float]], old: ServiceState, trigger: Trigger, new: ServiceState
) -> str:
    """A curve that bends to the left of its way, further for each trigger, so that no two lie on one another."""
    (x1, y1), (x2, y2) = places[old], places[new]
    bend = 14 + 9 * list(Trigger).index(trigger)
    if old is new:
        way = f"M{x1 - 20:.0f} {y1 - BOX[1] / 2:.0f} c-30 -60 70 -60 40 0"
    else:
        length = math.hypot(x2 - x1, y2 - y1)
        middle = ((x1 + x2) / 2 + bend * (y2 - y1) / length, (y1 + y2) / 2 - bend * (x2 - x1) / length)
        start, end = _edge((x1, y1), middle), _edge((x2, y2), middle)
        points = [f"{x:.0f} {y:.0f}" for x, y in (start, middle, end)]
        way = f"M{points[0]} Q{points[1]} {points[2]}"
    label = escape(f"{old.value} - {trigger.value} -> {new.value}")
    style = f'fill="none" stroke="{COLOURS[trigger]}" stroke-width="1.4" marker-end="url(#{trigger.value})"'
    return f'<path d="{way}" {style}><title>{label}</title></path>'


def _edge(centre: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Where the way from the centre of a box leaves it."""
    x, y = towards[0] - centre[0], towards[1] - centre[1]
    half = (BOX[0] / 2 + 3, BOX[1] / 2 + 3)
    scale = min(half[0] / abs(x) if x else math.inf, half[1] / abs(y) if y else math.inf)
    return centre[0] + scale * x, centre[1] + scale * y


def _box(state: ServiceState, x: float, y: float) -> str:
    corner = f'x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}"'
    shape = f'<rect {corner} width="{BOX[0]}" height="{BOX[1]}" rx="8" fill="#eef3f8" stroke="#345"/>'
    return f'{shape}<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle" fill="#123">{state.value}</text>'
