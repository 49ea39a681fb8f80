"""The command ``bench``: parse, call one harness function, print. Heavy imports stand inside the commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import completing
from harness.errors import BenchError

if TYPE_CHECKING:
    from harness.request import Options

app = typer.Typer(
    name="bench",
    help="Adversarial-robustness benchmarks one can trust: models x attacks x defenses, judged and stored.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Registry = Annotated[
    str | None,
    typer.Option("--registry", metavar="PATH", help="A registry.toml of your own on top of the packaged one."),
]
StorePlace = Annotated[str, typer.Option("--store", metavar="URL", help="Results: a path or any SQLAlchemy URL.")]
Data = Annotated[
    list[str] | None, typer.Option("--data", metavar="PATH", help="Folder to search for data; repeatable.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. attacks.pgd.steps=20; repeatable."),
]


def _plug(files: list[str] | None) -> list[str] | None:
    """Reads which components the files announce, before any name is looked up."""
    from harness.registry import plug

    plug("--plugin", files or ())
    return files


Plugin = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE", callback=_plug, help="A Python file with components of your own; repeatable."
    ),
]
Matrix = Annotated[
    str | None,
    typer.Option(
        "--matrix", metavar="NAME", autocompletion=completing.of_section("matrices"), help="A matrix of the registry."
    ),
]
Models = Annotated[
    str | None,
    typer.Option(
        "--models",
        "--model",
        metavar="A,B",
        autocompletion=completing.of_kind("models"),
        help="Models, instead of the matrix's.",
    ),
]
Datasets = Annotated[
    str | None,
    typer.Option(
        "--datasets",
        metavar="A,B",
        autocompletion=completing.of_kind("datasets"),
        help="Data sets, each model on each, instead of its own.",
    ),
]
Attacks = Annotated[
    str | None,
    typer.Option(
        "--attacks",
        metavar="A,B",
        autocompletion=completing.of_kind("attacks"),
        help="Attacks, instead of the matrix's.",
    ),
]
Defenses = Annotated[
    str | None,
    typer.Option(
        "--defenses",
        metavar="A,B",
        autocompletion=completing.of_kind("defenses"),
        help="Defenses, instead of the matrix's.",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="A,B",
        autocompletion=completing.of_kind("metrics"),
        help="Metrics, instead of the matrix's.",
    ),
]
Cell = Annotated[
    str,
    typer.Argument(metavar="CELL", help="6 or more first characters of a key, or MODEL/DEFENSE/ATTACK[:NORM][:EPS]."),
]
OfProfile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", autocompletion=completing.of_section("profiles"), help="The profile of the cell."
    ),
]
OfSeed = Annotated[int | None, typer.Option("--seed", metavar="N", help="The seed of the cell.")]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        autocompletion=completing.of_section("profiles"),
        help="tiny, small, report, or one of your own.",
    ),
]


@app.command()
def run(
    profile: Profile = "tiny",
    matrix: Matrix = None,
    models: Models = None,
    datasets: Datasets = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="FILE", help="The one model's weights; it is then not trained.")
    ] = None,
    attacks: Attacks = None,
    defenses: Defenses = None,
    metrics: Metrics = None,
    eps: Annotated[
        str | None, typer.Option("--eps", metavar="E,F", help="Attack budgets in pixel units, e.g. 8/255.")
    ] = None,
    norm: Annotated[str | None, typer.Option("--norm", metavar="NORM", help="Linf, L2 or L1.")] = None,
    severity: Annotated[
        str | None, typer.Option("--severity", metavar="S,T", help="Severities of corruptions, 1 to 5.")
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option(
            "--surrogate",
            metavar="MODEL",
            autocompletion=completing.of_kind("models"),
            help="Make every attack's images on this model.",
        ),
    ] = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Make them on every model and try them on every model.")
    ] = False,
    query_budget: Annotated[
        str | None, typer.Option("--query-budget", metavar="N", help="Forward passes a sample an attack may spend.")
    ] = None,
    final_iterate: Annotated[
        bool, typer.Option("--final-iterate", help="The last step counts, not the first that fools (the classic form).")
    ] = False,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="TYPE", help="float32, or bfloat16 for the attack's passes.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("--domain", metavar="DOMAIN", help="pixels; or normalised, a mistake made again to explain it."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Take also the checks that cost passes: see docs/verdicts.md.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="0,1", help="One training and attack for each seed.")
    ] = None,
    limit: Annotated[str | None, typer.Option("--limit", metavar="N", help="Attack only N test samples.")] = None,
    settings: Set = None,
    data: Data = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
    ] = None,
    store: StorePlace = "results.db",
    artifacts: Annotated[
        str, typer.Option("--artifacts", metavar="PATH", help="Folder of weights and checkpoints.")
    ] = "artifacts",
    registry: Registry = None,
    plugin: Plugin = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show every cell, its key, and what is to do.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do everything again, whatever is finished.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end, progress to stderr.")
    ] = False,
) -> None:
    """Run what has no result yet: train, defend, attack, judge, store."""
    given = dict(locals())
    from harness import run as flow
    from harness.progress import choose
    from harness.report import prospect as text

    places = flow.Places(tuple(data or ()), store, artifacts)
    found = flow.prospect(_options(given), places, fresh=fresh, dry=dry_run)
    if not quiet:
        print(text.first_line(found), file=sys.stderr if as_json else sys.stdout, flush=True)
        for note in found.plan.notes:
            print(f"bench: note: {note}", file=sys.stderr)
    if dry_run:
        if as_json:
            print(text.as_json(found))
        elif not quiet:
            print(text.graph(found))
        return
    command = shlex.join(["bench", *sys.argv[1:]])
    summary = flow.execute(found, places, command, choose(quiet=quiet), fresh=fresh)
    if as_json:
        print(text.summary_json(summary, store))
    elif not quiet:
        print(text.summary(summary))
    raise typer.Exit(summary.exit_code)


@app.command()
def table(
    store: StorePlace = "results.db",
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="rich, markdown, csv, json or latex.")
    ] = "rich",
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="NAME", autocompletion=completing.of_section("profiles"), help="Only this profile."
        ),
    ] = None,
    matrix: Annotated[
        str | None,
        typer.Option(
            "--matrix",
            metavar="NAME",
            autocompletion=completing.of_section("matrices"),
            help="Only the models and attacks of this matrix.",
        ),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Only the cells of this run.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="What to show; accuracy unless given.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="NAME",
            autocompletion=completing.of_section("references"),
            help="Published figures of the registry to put beside, e.g. report.",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL", help="A model to compare the others with.")
    ] = None,
    registry: Registry = None,
    plugin: Plugin = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="Models shown by the rich format; 0: all.")] = 100,
) -> None:
    """Print the leaderboard: a row a model, a column an attack.

    Columns are grouped by defense. Captioners get a table for each attack, metrics down and models across.
    """
    import shutil

    from harness.report.against import check_metric, compare_with
    from harness.report.reference import matrix as of_registry
    from harness.report.reference import published, published_sentences
    from harness.report.table import read, render
    from harness.store.queries import check_names
    from harness.store.reading import open_reader

    beside = published(reference, registry) if reference else None
    sentences = published_sentences(reference, registry) if reference else None
    wanted = of_registry(matrix, registry) if matrix else None
    with open_reader(store) as reader:
        check_names(reader, profile=profile, metric=metric)
        if against:
            check_metric(metric)
        found, captioned = read(reader, format=format, metric=metric, profile=profile, run=run, matrix=wanted)
        base = compare_with(reader, found, against) if against else None
    terminal = sys.stdout.isatty()
    print(
        render(
            found,
            format=format,
            metric=metric,
            reference=beside,
            against=base,
            width=shutil.get_terminal_size().columns if terminal else None,
            rows_limit=rows,
            color=terminal,
            captioned=captioned,
            order=wanted.metrics if wanted else of_registry("captions", registry).metrics if captioned else (),
            sentences=sentences,
        )
    )


@app.command()
def compare(
    a: Cell,
    b: Cell,
    store: StorePlace = "results.db",
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="rich or json.")] = "rich",
    profile: OfProfile = None,
    seed: OfSeed = None,
) -> None:
    """Tell whether two cells differ, on the samples that both attack."""
    from harness.report.comparing import compare as compared
    from harness.report.comparing import report
    from harness.report.selecting import select
    from harness.store.reading import open_reader

    with open_reader(store) as reader:
        rows = [select(reader, text, seed=seed, profile=profile) for text in (a, b)]
        print(report(compared(reader, *rows), format))


@app.command()
def show(
    cell: Cell,
    store: StorePlace = "results.db",
    profile: OfProfile = None,
    seed: OfSeed = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell everything about one cell, and what its doubts mean."""
    from harness.report.selecting import select
    from harness.report.showing import as_json as to_json
    from harness.report.showing import as_text, gather
    from harness.store.reading import open_reader

    with open_reader(store) as reader:
        found = gather(reader, select(reader, cell, seed=seed, profile=profile))
    print(to_json(found) if as_json else as_text(found))


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completing.kinds, help="datasets, models, attacks, defenses, metrics, matrices, profiles."
        ),
    ] = None,
    registry: Registry = None,
    plugin: Plugin = None,
    profile: Profile = "tiny",
) -> None:
    """List what can be named on the command line. Imports no plugin."""
    from harness.report.catalogue import listing

    print(listing(kind, profile, registry))


@app.command()
def info(
    kind: Annotated[
        str, typer.Argument(autocompletion=completing.kinds, help="datasets, models, attacks, defenses or metrics.")
    ],
    name: Annotated[
        str, typer.Argument(autocompletion=completing.of_the_kind_before, help="A name that `bench list` shows.")
    ],
    registry: Registry = None,
    plugin: Plugin = None,
    profile: Profile = "tiny",
    settings: Set = None,
    data: Data = None,
    artifacts: Annotated[
        str, typer.Option("--artifacts", metavar="PATH", help="Folder where runs keep what data sets are made of.")
    ] = "artifacts",
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Draw a data set, as PNG and PDF: classes of each split, or words of captions."),
    ] = False,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where --figures writes.")] = "figures",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell everything about one component, what is in a data set, and how large a model is.

    Its parameters with types, defaults and values, and where it comes from.
    """
    from pathlib import Path

    from harness.report import catalogue

    which = (kind, name, profile, registry, settings or ())
    if figures and as_json:
        raise BenchError("--figures and --json: got both; give one of them")
    if figures:
        for path in catalogue.figures(*which, data=data or (), artifacts=artifacts, out=Path(out)):
            print(path)
    else:
        tell = catalogue.as_json if as_json else catalogue.description
        print(tell(*which, data=data or (), artifacts=artifacts))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A component, or a name of the registry.")],
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="datasets, models, attacks, defenses or metrics."),
    ] = None,
    registry: Registry = None,
    plugin: Plugin = None,
    profile: Profile = "tiny",
    settings: Set = None,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Hold a component against the contract: a row a rule. The exit code is 1 where one is broken."""
    from harness.report.contract import as_json as to_json
    from harness.report.contract import as_text, checked, is_broken

    candidate, found = checked(name, kind, profile, registry, settings or (), data or ())
    print(to_json(candidate, found) if as_json else as_text(candidate, found))
    raise typer.Exit(int(is_broken(found)))


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="attack, dataset, model, defense or metric.")],
    name: Annotated[str, typer.Argument(help="What it is to be called in commands and tables.")],
    into: Annotated[str, typer.Option("--into", metavar="DIR", help="Where its folder is made.")] = ".",
) -> None:
    """Write a package with a component of your own, ready to be installed, and say what to type next."""
    from pathlib import Path

    from harness.scaffold.writing import write

    written = write(kind, name, Path(into))
    print(f"{written.folder}: {', '.join(written.files)}")
    print("\n".join(f"  {command}" for command in written.commands))


@app.command()
def figures(
    profile: Profile = "tiny",
    matrix: Matrix = None,
    models: Models = None,
    datasets: Datasets = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="FILE", help="The one model's weights; it is then not trained.")
    ] = None,
    attacks: Attacks = None,
    defenses: Defenses = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="A,B",
            help="overview, confusion, classes, superclasses, reliability, training, eps (of stored results); "
            "gallery, saliency, landscape, attention (these need weights). All of them unless given.",
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Folder that the figures are written to.")
    ] = "figures",
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Images in a gallery.")] = 10,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="A,B", help="Classes of saliency maps, by name; else three.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="NAME",
            autocompletion=completing.of_section("references"),
            help="Published values to mark in the overview, e.g. report.",
        ),
    ] = None,
    eps: Annotated[str | None, typer.Option("--eps", metavar="E,F", help="Budgets of the run.")] = None,
    norm: Annotated[str | None, typer.Option("--norm", metavar="NORM", help="Norm of the run.")] = None,
    severity: Annotated[str | None, typer.Option("--severity", metavar="S,T", help="Severities of the run.")] = None,
    surrogate: Annotated[str | None, typer.Option("--surrogate", metavar="MODEL", help="Surrogate of the run.")] = None,
    transfer: Annotated[bool, typer.Option("--transfer", help="The run had this option.")] = False,
    query_budget: Annotated[
        str | None, typer.Option("--query-budget", metavar="N", help="Query budget of the run.")
    ] = None,
    final_iterate: Annotated[bool, typer.Option("--final-iterate", help="The run had this option.")] = False,
    precision: Annotated[str | None, typer.Option("--precision", metavar="TYPE", help="Precision of the run.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", metavar="DOMAIN", help="Domain of the run.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="0,1", help="Seeds of the run.")] = None,
    limit: Annotated[str | None, typer.Option("--limit", metavar="N", help="Test samples of the run.")] = None,
    settings: Set = None,
    data: Data = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DEVICE", help="For kinds that need weights: auto, cpu, cuda or mps."),
    ] = None,
    store: StorePlace = "results.db",
    artifacts: Annotated[
        str, typer.Option("--artifacts", metavar="PATH", help="Folder of weights and of what figures were made of.")
    ] = "artifacts",
    registry: Registry = None,
    plugin: Plugin = None,
) -> None:
    """Draw finished cells, as PNG and PDF.

    Give the options of the run: what of it is finished is drawn, and no cell is run for it.
    """
    given = dict(locals())
    from pathlib import Path

    from harness import run as flow
    from harness.illustration.drawing import Wanted, draw

    published = None
    if reference is not None:
        from harness.report.reference import published as read

        published = read(reference, registry)
    wanted = Wanted(_names(kind, "--kind") or (), samples, _names(classes, "--classes") or (), published)
    places = flow.Places(tuple(data or ()), store, artifacts)
    drawn = draw(flow.prospect(_options(given), places, dry=True), places, wanted, Path(out), print)
    for note in drawn.notes:
        print(f"bench: note: {note}", file=sys.stderr)


def _options(given: Mapping[str, Any]) -> Options:
    """What a command's arguments say of a request: those that are called as a field of the options is."""
    from harness.request import Matrix, Options

    found = {field.name: given[field.name] for field in fields(Options) if field.name in given}
    lists = {field.name: _names(found.get(field.name), f"--{field.name}") for field in fields(Matrix)}
    return Options(**{**found, **lists, "settings": found["settings"] or ()})


def _names(text: str | None, option: str) -> list[str] | None:
    """Names separated by commas; one that holds a comma itself stands in double quotes, as in CSV."""
    import csv

    if text is None:
        return None
    names = [name.strip() for row in csv.reader([text], skipinitialspace=True) for name in row if name.strip()]
    if not names:
        raise BenchError(f"{option}: got {text!r}; one or more names, separated by commas, are needed")
    return names


def main() -> None:
    """The entry point: a user's mistake is one line and exit code 2, Ctrl-C is 130, a bug keeps its traceback."""
    try:
        app()
    except BenchError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has left; pointing stdout nowhere keeps Python from complaining at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        sys.exit(141)


if __name__ == "__main__":
    main()
