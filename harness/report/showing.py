"""``bench show CELL``: everything that the store knows about one cell."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report.columns import columns
from harness.report.explanations import explanation
from harness.report.layout import number_text, threat_text
from harness.report.lineage import lineage
from harness.store.details import cell_details, passes_by_sample
from harness.store.queries import Row
from harness.store.reading import Reader
from harness.types import eps_text

COORDINATE = ("profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed")
PROTOCOL = ("precision", "query_budget", "final_iterate", "judge", "torch")
NAMED = {"attack": "attack", "harden": "defense", "fit": "model"}
WIDTH = 100  # of running text
GIB = 2**30
PIXELS = ("eps", "alpha")
HARDWARE = ("processor", "accelerator", "cores", "memory")  # first, before what else is known
TIED = "\xa0"  # a blank at which no line is broken


def gather(reader: Reader, row: Row) -> dict[str, Any]:
    """All of it as one JSON object. A cell that was never reached has its coordinate and its reason alone."""
    details = cell_details(reader, row.key)
    document = json.loads(details["document"]) if details else {}
    return {
        **{field: getattr(row, field) for field in COORDINATE},
        "status": row.status,
        "verdict": row.verdict,
        "reasons": [_reason(*reason) for reason in row.reasons],
        "n": row.n,
        "scores": [score._asdict() for score in row.scores],
        "unmeasured": [{"metric": metric, "reason": reason} for metric, reason in row.unmeasured],
        "cost": _cost(reader, row, details) if details and row.n else None,
        "facts": json.loads(details["facts"]) if details else {},
        "access": details["access"] if details else "",
        "samples": document.get("samples", {}),
        "protocol": {name: document[name] for name in PROTOCOL if name in document},
        "lineage": lineage(reader, row, document),
        "key": row.key,
        "family": details["family"] if details else "",
        "subject": details["subject"] if details else "",
        "run": row.run,
        "provenance": _provenance(details) if details else None,
    }


def as_json(found: Mapping[str, Any]) -> str:
    """What was gathered as indented JSON."""
    return json.dumps(found, indent=2, ensure_ascii=False)


def as_text(found: Mapping[str, Any]) -> str:
    """What was gathered, for people: what it is, what to doubt, numbers, cost, how it was made, where it comes from."""
    sections = {
        "doubts": _doubts(found["reasons"]),
        "scores": _scores(found["scores"], found["unmeasured"]),
        "cost": _costs(found["cost"], found["n"]),
        "facts": _pairs([(key, _value(key, value)) for key, value in found["facts"].items()]),
        "made from": _made_from(found["lineage"]),
        "provenance": _origin(found),
    }
    blocks = [_head(found)]
    blocks += [f"{title}\n{textwrap.indent(text, '  ')}" for title, text in sections.items() if text]
    return "\n\n".join(blocks)


# --- gathering


def _reason(code: str, verdict: str, text: str) -> dict[str, Any]:
    return {"code": code, "verdict": str(verdict), "text": text, "explanation": explanation(code)}


def _cost(reader: Reader, row: Row, details: Mapping[str, Any]) -> dict[str, Any]:
    forwards, backwards = passes_by_sample(reader, row.key)
    seconds = details["seconds"]
    return {
        "forwards": _summary(forwards),
        "backwards": _summary(backwards),
        "seconds": seconds,
        "seconds_per_sample": seconds / row.n,
        "device": details["device"],
    }


def _summary(values: Sequence[float]) -> dict[str, float] | None:
    """Over the samples."""
    if not values:
        return None
    return {"mean": statistics.fmean(values), "median": statistics.median(values), "max": max(values)}


def _provenance(details: Mapping[str, Any]) -> dict[str, Any]:
    """Of the run that measured the cell, which need not be the one that shows it."""
    plain = {field: details[field] for field in ("command", "git_revision", "device", "started")}
    parsed = {field: json.loads(details[field]) for field in ("versions", "hardware")}
    return {"run": details["run_id"], "measured": details["created"], **plain, **parsed}


# --- text


def _head(found: Mapping[str, Any]) -> str:
    threat = threat_text(found["norm"], found["eps"]) or "no perturbation"
    samples = found["samples"].get("split")
    return _pairs(
        [
            ("cell", " / ".join(str(found[field]) for field in ("model", "defense", "attack"))),
            ("data", f"{found['dataset']}, n = {found['n']}" + (f" of the {samples} split" if samples else "")),
            ("threat", threat + (f", sees {found['access']}" if found["access"] else "")),
            ("profile", f"{found['profile']}, seed {found['seed']}"),
            *([("protocol", _listed(found["protocol"]))] if found["protocol"] else []),
            ("status", found["status"]),
            ("verdict", found["verdict"]),
            ("key", found["key"]),
        ]
    )


def _doubts(reasons: Sequence[Mapping[str, Any]]) -> str:
    blocks = []
    for reason in reasons:
        text = " ".join(reason["text"].split())
        lines = _wrapped(f"{reason['code']} ({reason['verdict']}): {text}")
        if reason["explanation"]:
            lines += [f"  {line}" for line in _wrapped(reason["explanation"])]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _scores(scores: Sequence[Mapping[str, Any]], unmeasured: Sequence[Mapping[str, str]]) -> str:
    table = [columns([_score(score) for score in scores])] if scores else []
    failed = [line for one in unmeasured for line in _wrapped(f"{one['metric']} failed: {one['reason']}")]
    return "\n".join([*table, *failed])


def _score(score: Mapping[str, Any]) -> tuple[str, str, str, str]:
    unit = score["unit"]
    low, high = score["low"], score["high"]
    interval = "" if low is None or high is None else f"[{number_text(low, unit)}, {number_text(high, unit)}]"
    shown = "%" if unit == "fraction" else unit
    return score["metric"], f"{number_text(score['value'], unit)} {shown}".rstrip(), interval, f"n = {score['n']}"


def _costs(cost: Mapping[str, Any] | None, n: int) -> str:
    if cost is None:
        return ""
    kinds = [kind for kind in ("forwards", "backwards") if cost[kind]]
    rows = [[kind, *(f"{cost[kind][which]:.6g}" for which in ("mean", "median", "max"))] for kind in kinds]
    table = [columns([["passes a sample", "mean", "median", "max"], *rows])] if rows else []
    each = f"{cost['seconds_per_sample']:.3g} s a sample"
    return "\n".join([*table, f"{cost['seconds']:.3g} s on {cost['device']} for {n} samples, {each}"])


def _made_from(links: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(line for link in links for line in _link(link))


def _link(link: Mapping[str, Any]) -> Iterator[str]:
    seconds = "" if link["seconds"] is None else f", trained in {link['seconds']:.3g} s"
    guessed = ", found by its name" if link["by_label"] else ""
    label = f" {link['label']}" if link["label"] and link["kind"] != "harden" else ""
    kind = NAMED.get(link["kind"], link["kind"])
    yield f"{kind}{label}: {link['component']} of {link['distribution']}, key {link['key'][:12]}{seconds}{guessed}"
    for title in ("parameters", "recipe"):
        if link[title]:
            yield from (f"  {line}" for line in _wrapped(f"{title}: {_listed(link[title])}"))


def _origin(found: Mapping[str, Any]) -> str:
    origin = found["provenance"]
    if origin is None:
        return _pairs([("run", found["run"])])
    shown = "" if origin["run"] == found["run"] else f", shown by {found['run']}"
    return _pairs(
        [
            ("run", f"{origin['run']} of {_time(origin['started'])}{shown}"),
            ("command", origin["command"]),
            ("revision", origin["git_revision"] or "unknown"),
            ("versions", ", ".join(f"{package} {version}" for package, version in origin["versions"].items())),
            ("hardware", _hardware(origin["hardware"]) or origin["device"]),
            ("measured", _time(origin["measured"])),
        ]
    )


def _hardware(hardware: Mapping[str, Any]) -> str:
    known = {key: hardware[key] for key in (*HARDWARE, *hardware) if hardware.get(key)}
    if "cores" in known:
        known["cores"] = f"{known['cores']} cores"
    if "memory" in known:
        known["memory"] = f"{known['memory'] / GIB:.1f} GiB"
    return ", ".join(map(str, known.values()))


def _time(iso: str) -> str:
    return iso[:19].replace("T", " ") + " UTC"


def _listed(values: Mapping[str, Any]) -> str:
    """Names with their values; a line may be broken between two of them, not inside one."""
    return ", ".join(f"{name} {_value(name, value)}".replace(" ", TIED) for name, value in values.items())


def _value(name: str, value: Any) -> str:
    """A stored value as people write it, those in pixel units in 255ths where they are."""
    if isinstance(value, float):
        return eps_text(value) if name in PIXELS else f"{value:.6g}"
    if value is None or value == []:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values; a long value goes on in lines of its own under itself."""
    width = max((len(name) for name, _ in pairs), default=0) + 2
    lines = []
    for name, value in pairs:
        first, *rest = _wrapped(value, WIDTH - width) or [""]
        lines += [name.ljust(width) + first, *(" " * width + line for line in rest)]
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, width: int = WIDTH) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(TIED, " ") for line in lines]
