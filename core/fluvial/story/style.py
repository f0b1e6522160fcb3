"""Colours and fonts of the drawing, for light and dark; no custom properties, since not everything that shows SVG knows them."""

from __future__ import annotations

from typing import Final

SANS: Final = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif'
MONO: Final = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono", monospace'

CSS: Final = f"""
.fs text {{ font-family: {SANS}; font-size: 12px; fill: #1f2937; }}
.fs .mono {{ font-family: {MONO}; }}
.fs .title {{ font-size: 19px; font-weight: 650; }}
.fs .id {{ font-size: 12px; fill: #4b5563; }}
.fs .label {{ fill: #6b7280; }}
.fs .time {{ font-size: 11px; fill: #6b7280; text-anchor: end; }}
.fs .name {{ font-size: 14px; font-weight: 650; text-anchor: middle; }}
.fs .short {{ font-size: 11px; fill: #6b7280; text-anchor: middle; }}
.fs .tag {{ font-size: 10px; font-weight: 650; fill: #ffffff; text-anchor: middle; }}
.fs .fact {{ font-size: 11.5px; }}
.fs .outcome {{ fill: #4b5563; }}
.fs .small {{ font-size: 11px; }}
.fs .over {{ font-size: 11px; text-anchor: middle; paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; }}
.fs .page {{ fill: #ffffff; }}
.fs .head {{ fill: #f3f4f6; stroke: #d1d5db; }}
.fs .first {{ fill: #eef2ff; stroke: #6366f1; stroke-width: 1.5; }}
.fs .pill {{ fill: #4f46e5; }}
.fs .life {{ stroke: #d1d5db; stroke-width: 1.25; stroke-dasharray: 3 4; }}
.fs .guide {{ stroke: #f3f4f6; }}
.fs .call {{ fill: #eff6ff; stroke: #93c5fd; }}
.fs .canon {{ fill: #f5f3ff; stroke: #a78bfa; }}
.fs .failure {{ fill: #fef2f2; stroke: #ef4444; stroke-width: 1.5; }}
.fs .open {{ fill: #fffbeb; stroke: #f59e0b; stroke-dasharray: 5 3; }}
.fs text.red {{ fill: #b91c1c; }}
.fs text.amber {{ fill: #92400e; }}
.fs .hop {{ stroke: #334155; stroke-width: 1.5; fill: none; }}
.fs .tip {{ fill: #334155; }}
.fs .handed {{ stroke: #94a3b8; stroke-width: 1.25; stroke-dasharray: 2 3; fill: none; }}
.fs .handed-tip {{ fill: #94a3b8; }}
.fs .lost {{ stroke: #dc2626; stroke-width: 1.75; stroke-dasharray: 6 4; fill: none; }}
.fs .cross {{ stroke: #dc2626; stroke-width: 2; fill: none; }}
.fs .verified {{ stroke: #15803d; stroke-width: 1.75; fill: none; stroke-linecap: round; stroke-linejoin: round; }}
.fs .seal {{ fill: #dcfce7; stroke: #16a34a; }}
.fs .own {{ fill: none; stroke: #9ca3af; stroke-dasharray: 2 2; }}
@media (prefers-color-scheme: dark) {{
.fs text {{ fill: #e5e7eb; }}
.fs .id, .fs .outcome {{ fill: #c3c9d4; }}
.fs .label, .fs .time, .fs .short {{ fill: #9ca3af; }}
.fs .tag {{ fill: #ffffff; }}
.fs .over {{ stroke: #0f172a; }}
.fs .page {{ fill: #0f172a; }}
.fs .head {{ fill: #1e293b; stroke: #475569; }}
.fs .first {{ fill: #1e1b4b; stroke: #818cf8; }}
.fs .life {{ stroke: #475569; }}
.fs .guide {{ stroke: #1e293b; }}
.fs .call {{ fill: #172554; stroke: #3b82f6; }}
.fs .canon {{ fill: #2e1065; stroke: #a78bfa; }}
.fs .failure {{ fill: #450a0a; stroke: #f87171; }}
.fs .open {{ fill: #3a2408; stroke: #f59e0b; }}
.fs text.red {{ fill: #fca5a5; }}
.fs text.amber {{ fill: #fcd34d; }}
.fs .hop {{ stroke: #cbd5e1; }}
.fs .tip {{ fill: #cbd5e1; }}
.fs .handed {{ stroke: #64748b; }}
.fs .handed-tip {{ fill: #64748b; }}
.fs .lost, .fs .cross {{ stroke: #f87171; }}
.fs .verified {{ stroke: #4ade80; }}
.fs .seal {{ fill: #052e16; stroke: #22c55e; }}
}}
"""

PAGE_CSS: Final = f"""
body {{ margin: 0; font: 15px/1.5 {SANS}; color: #1f2937; background: #ffffff; }}
main {{ max-width: 1500px; margin: 0 auto; padding: 0 16px 48px; }}
section {{ margin: 0 28px; }}
figure {{ margin: 0; overflow-x: auto; }}
figure svg {{ display: block; margin: 0 auto; }}
h2 {{ font-size: 17px; margin: 36px 0 10px; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; }}
th, td {{ text-align: left; font-weight: 400; padding: 4px 12px 4px 0; border-bottom: 1px solid #e5e7eb; vertical-align: top; }}
thead th {{ font-weight: 600; color: #4b5563; }}
tbody th {{ white-space: nowrap; font-weight: 600; }}
td.number {{ font-family: {MONO}; font-size: 12px; white-space: nowrap; }}
td.code, pre, code {{ font-family: {MONO}; font-size: 12px; }}
td.code {{ overflow-wrap: anywhere; }}
tr.failure td.code {{ color: #b91c1c; }}
table.script tbody th {{ text-align: right; color: #6b7280; font-weight: 400; font-family: {MONO}; font-size: 12px; user-select: none; }}
table.script tbody th, table.script td {{ border: 0; padding-top: 1px; padding-bottom: 1px; }}
table.script td.state {{ color: #4b5563; font-size: 12px; white-space: nowrap; }}
table.script code {{ white-space: pre; tab-size: 4; }}
table.script tr.done {{ background: #f0fdf4; }}
table.script tr.failed {{ background: #fef2f2; }}
table.script tr.waits {{ background: #fffbeb; }}
table.script tr.sent {{ background: #f8fafc; }}
tr:target {{ outline: 2px solid #6366f1; }}
mark {{ color: inherit; border-radius: 3px; font-weight: 700; background: none; }}
mark.done {{ background: #bbf7d0; }}
mark.failed {{ background: #fecaca; }}
mark.waits {{ background: #fde68a; }}
mark.sent {{ background: #e2e8f0; }}
a {{ color: #4338ca; }}
pre {{ overflow-x: auto; }}
summary {{ cursor: pointer; }}
@media (prefers-color-scheme: dark) {{
body {{ color: #e5e7eb; background: #0f172a; }}
th, td {{ border-color: #1e293b; }}
thead th, table.script td.state {{ color: #9ca3af; }}
tr.failure td.code {{ color: #fca5a5; }}
table.script tr.done {{ background: #052e16; }}
table.script tr.failed {{ background: #450a0a; }}
table.script tr.waits {{ background: #3a2408; }}
table.script tr.sent {{ background: #1e293b; }}
mark.done {{ background: #166534; }}
mark.failed {{ background: #991b1b; }}
mark.waits {{ background: #92400e; }}
mark.sent {{ background: #475569; }}
a {{ color: #a5b4fc; }}
}}
@media print {{ figure, .wide {{ overflow: visible; }} }}
"""
