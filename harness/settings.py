"""The ``[run]`` table and the command line -> what holds for every cell of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.coercion import coerce, fill
from harness.errors import BenchError, unknown
from harness.layers import Table
from harness.types import NORMS

if TYPE_CHECKING:
    from harness.request import Options


@dataclass(frozen=True)
class RunSettings:
    """The ``[run]`` table: what holds for every cell. Sizes are counts; ``eps`` is in pixel units on [0, 1].

    matrix: the table of [matrices] that is run. norm: of the budgets, "Linf", "L2" or "L1". eps: budgets attacked with,
    one or a list. seeds: a training and an attack for each. limit: test samples attacked, the same ones for every model
    and attack. severities: of common corruptions, 1 to 5. final_iterate: the last step of an attack counts, and not the
    first one that fools. query_budget: forward passes a sample that an attack may spend. precision: of the engine's
    passes; the judge's are float32. domain: "normalised" hands attacks normalised images, a mistake made again to
    explain it; the last iterate then counts. verify: take the checks that cost passes; probe: the attack without
    gradients that is one of them. beam, longest, length_penalty: how captions are searched for: greedily or by a beam
    of this width, up to so many words, hypotheses compared by log probability / length ** length_penalty. batch_size:
    of attacks and validation, halved where memory runs out; it decides no number. device: "auto", "cpu", "cuda" or
    "mps". threads: of torch on the CPU; 0 takes every core. about: what is said of a profile where profiles are listed.
    """

    matrix: str = "report"
    norm: str = "Linf"
    eps: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    severities: tuple[float, ...] = (3.0,)
    limit: int | None = None
    final_iterate: bool = False
    query_budget: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    domain: Literal["pixels", "normalised"] = "pixels"
    verify: bool = False
    probe: str = ""
    beam: int = 1
    longest: int = 30
    length_penalty: float = 0.0
    batch_size: int = 256
    device: str = "auto"
    threads: int = 0
    about: str = ""


def run_settings(table: Table, options: Options) -> RunSettings:
    """The ``[run]`` table with what the command line says over it. Raises BenchError for what is out of range."""
    table = dict(table)
    if options.norm is not None and options.eps is None and options.norm != table.get("norm", "Linf"):
        raise BenchError(
            f"--norm {options.norm}: eps {table.get('eps')} of the profile is meant for {table.get('norm', 'Linf')}; "
            "give --eps too (for example --norm L2 --eps 0.5)"
        )
    given = {"norm": options.norm, "eps": options.eps, "seeds": options.seeds, "limit": options.limit}
    given |= {"matrix": options.matrix, "device": options.device, "severities": options.severity}
    given |= {"query_budget": options.query_budget, "precision": options.precision, "domain": options.domain}
    flags = {"final_iterate": options.final_iterate or None, "verify": options.verify or None}
    for key, value in {**given, **flags}.items():
        if value is not None:
            table[key] = _split(str(value)) if key in ("eps", "seeds", "severities") else value
    for key, option in (("limit", "--limit"), ("query_budget", "--query-budget")):
        if isinstance(table.get(key), str):
            table[key] = _whole(table[key], option)
    if "seeds" in table:
        table["seeds"] = list(dict.fromkeys(_whole(seed, "--seeds") for seed in _as_list(table["seeds"])))
    if "eps" in table:
        # In rising order, for what is fooled at a small budget is not attacked again at a larger one.
        table["eps"] = sorted({coerce(eps, float, "--eps") for eps in _as_list(table["eps"])})
    if "severities" in table:
        given_severities = _as_list(table["severities"])
        table["severities"] = sorted({coerce(level, float, "--severity") for level in given_severities})
    run = fill(RunSettings, table, "run")
    if run.domain == "normalised":
        run = replace(run, final_iterate=True)  # as the libraries have it that the mistake is made with
    if run.norm not in NORMS:
        raise unknown("--norm", run.norm, NORMS)
    for eps in run.eps:
        if eps < 0:
            raise BenchError(f"--eps: got {eps:g}; a budget in pixel units, 0 or more, for example 8/255, is needed")
    if run.limit is not None and run.limit < 1:
        raise BenchError(f"--limit: got {run.limit}; a number of samples, 1 or more, is needed")
    for level in run.severities:
        if level not in (1, 2, 3, 4, 5):
            raise BenchError(f"--severity: got {level:g}; whole numbers from 1 to 5 are needed")
    if run.query_budget is not None and run.query_budget < 1:
        raise BenchError(f"--query-budget: got {run.query_budget}; forward passes a sample, 1 or more, are needed")
    for name, low in (("batch_size", 1), ("threads", 0), ("beam", 1), ("longest", 1), ("length_penalty", 0)):
        if (got := getattr(run, name)) < low:
            raise BenchError(f"run.{name}: got {got}; {low} or more is needed")
    if not run.seeds:
        raise BenchError("--seeds: none given; one or more whole numbers are needed")
    for seed in run.seeds:
        if not 0 <= seed < 2**63:  # more than a database's integers hold
            raise BenchError(f"--seeds: got {seed}; whole numbers from 0 to 2**63 - 1 are needed")
    return run


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _whole(value: Any, where: str) -> int:
    try:
        return int(value) if isinstance(value, str) else coerce(value, int, where)
    except (ValueError, BenchError):
        raise BenchError(f"{where}: got {value!r}; a whole number is needed") from None
