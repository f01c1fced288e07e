"""What the judge and the checks recorded, as tables: champion beside challenger, what failed first.

With `console.judgement_text` the one place where the console reads the JSON of judgements, metrics and findings.
"""

from __future__ import annotations

from typing import Any

from dash import html

from console.formatting import clock, interval, number, percent, plural, span
from console.judgement_text import reasons, verdict
from console.parts.widgets import VERDICT_STATUS, Children, empty, status, table

Json = dict[str, Any]
_ORDER = {"ABORT": 0, "HOLD": 1, "ADVANCE": 2, "fail": 0, "not_evaluated": 1, "pass": 2}


def _arm(arm: Json | None) -> Children:
    if not arm or not arm.get("n"):
        return html.Span("no data", className="note")
    return html.Div(
        [
            html.Span(percent(arm.get("rate")), className="strong"),
            html.Div(interval(arm.get("interval")), className="note"),
            html.Div(f"{number(arm.get('events'))} of {number(arm['n'])}", className="note"),
        ],
        className="arm",
    )


def _limit(metric: Json) -> str:
    parts = []
    if metric.get("limit") is not None:
        parts.append(f"at most {percent(metric['limit'])}")
    if metric.get("ratio_limit") is not None:
        parts.append(f"at most {number(metric['ratio_limit'])} × champion")
    return ", ".join(parts) or "–"


def metrics(judgement: Json | None) -> html.Div:
    """Champion and challenger, one metric a row, worst verdict first."""
    found = sorted((judgement or {}).get("metrics", []), key=lambda metric: _ORDER.get(metric["verdict"], 0))
    heads = ["Metric", "Verdict", "Control", "Challenger", "Limit", "Why"]
    rows = [
        [
            html.Span(metric.get("title") or metric["metric"], className="strong"),
            status(VERDICT_STATUS.get(metric["verdict"], metric["verdict"]), metric["verdict"].capitalize()),
            _arm(metric.get("champion")),
            _arm(metric.get("challenger")),
            _limit(metric),
            html.Span(metric.get("why") or "–", className="note"),
        ]
        for metric in found
    ]
    return table(heads, rows, caption="Metrics of control and challenger", className="wide-cells")


def judged(last: Json | None) -> list[Children]:
    """The last judgement: verdict largest, its reasons, the split between the arms, the metrics."""
    if not last:
        return [empty("No judgement yet.", "The judge speaks once a canary carries traffic.")]
    ratio = last.get("sample_ratio") or {}
    word = verdict_label(last)
    split = (
        f"Traffic split {percent(ratio.get('observed'))}, expected {percent(ratio.get('expected'))}: "
        f"{'as ordered' if ratio.get('ok') else 'not as ordered'}."
        if ratio
        else ""
    )
    window = f"At {percent(last.get('share'))}, {clock(last.get('at'))} UTC, over {span(last.get('seconds') or 0)}."
    said = [html.Li(reason) for reason in reasons(last)]
    head = html.Div([word, html.Span(f"{window} {split}", className="note")], className="verdict")
    return [head, html.Ul(said, className="reasons") if said else None, metrics(last)]


def verdict_label(judgement: Json | None) -> html.Span:
    """The verdict as a status label."""
    word = verdict(judgement)
    return status(VERDICT_STATUS.get(word, "Warning"), (word or "None").capitalize())


def _finding(finding: Json) -> list[Children]:
    relation = {">=": "≥", "<=": "≤", "==": "="}.get(finding.get("relation", ""), "")
    limit = f"{relation} {number(finding.get('limit'))}".strip()
    seen = number(finding.get("observed"))
    range_ = finding.get("interval")
    if range_:
        seen += f" ({number(range_[0])} – {number(range_[1])})"
    return [
        finding.get("name", "–"),
        status("Passed" if finding.get("ok") else "Failed"),
        seen,
        limit or "–",
        number(finding.get("n")),
        html.Span(finding.get("detail") or "–", className="note"),
    ]


def checks(facts: list[Json]) -> list[Children]:
    """The latest outcome of every check with its findings; what did not pass is open and first."""
    latest = {fact["data"]["check"]: fact for fact in facts if fact["kind"] == "CheckCompleted"}
    if not latest:
        return [empty("No check has run yet.", "Checks run after training, on the candidate's own bytes.")]
    ordered = sorted(latest.values(), key=lambda fact: (_ORDER.get(fact["data"]["status"], 0), fact["seq"]))
    return [_check(fact) for fact in ordered]


def _check(fact: Json) -> html.Details:
    data = fact["data"]
    heads = ["Finding", "Result", "Observed", "Limit", "n", "Detail"]
    findings = sorted(data["findings"], key=lambda finding: bool(finding.get("ok")))
    bad = sum(not finding.get("ok") for finding in findings)
    count = f"{bad} of {plural(len(findings), 'finding')} over the limit" if bad else plural(len(findings), "finding")
    words = {"pass": "Passed", "fail": "Failed", "not_evaluated": "Not evaluated"}
    return html.Details(
        [
            html.Summary(
                [
                    status(VERDICT_STATUS[data["status"]], words[data["status"]]),
                    html.Span(data["title"], className="strong"),
                    html.Span(count, className="note"),
                ]
            ),
            table(heads, [_finding(finding) for finding in findings], caption=f"Findings of {data['title']}")
            if findings
            else html.P("It left no findings.", className="note"),
        ],
        open=data["status"] != "pass",
        className="check",
    )
