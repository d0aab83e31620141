"""`mammoprep check`: whether a DATASET keeps every rule of its format."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoprep.cli import console

if TYPE_CHECKING:
    from mammoprep.check import Report

MOST_EXAMPLES = 3
"""Problems of a rule that the table shows; --json has all."""


def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Written by mammoprep convert, or by anyone.")],
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what follows from data that are there: areas, boxes, counts, lists.")
    ] = False,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="Do not count this rule's problems. May be repeated.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Images at a time. Default: the number of cores.")] = None,
    cluster: console.Cluster = None,
    json: console.Json = False,
) -> int:
    """Check a DATASET against every rule of its format, and for images that are there twice.

    Exit code 1 says that a problem was found, and is still there after --fix.
    """
    from joblib import cpu_count

    from mammoprep import check as rules
    from mammoprep.parallel import Workers

    with console.progress("Checking") as move:
        how = Workers(workers or cpu_count(), cluster)
        report = rules.check(dataset, ignore=ignore or (), fix=fix, workers=how, on_progress=move)
    if json:
        console.print_json(report.to_json())
    else:
        _print(report, fix=fix)
    return 1 if report.problems else 0


def _print(report: "Report", *, fix: bool) -> None:
    from mammoprep.check import FIXES, RULES, count_fixable

    out = console.stdout()
    for rule, count in report.fixed.items():
        out.print(f"{rule}: {count} mended, {FIXES[rule]}.", markup=False, soft_wrap=True)
    for rule, problems in report.by_rule().items():
        mendable = count_fixable(problems)
        hint = f" ({mendable} for --fix)" if mendable and not fix else ""
        out.print(f"{rule}: {len(problems)} found{hint}. The rule: {RULES[rule]}.", markup=False, soft_wrap=True)
        for problem in problems[:MOST_EXAMPLES]:
            out.print(f"    {problem.where}: {problem.what}", markup=False, soft_wrap=True)
        if len(problems) > MOST_EXAMPLES:
            out.print(
                f"    … and {len(problems) - MOST_EXAMPLES} more (--json shows all)", markup=False, soft_wrap=True
            )
    for rule, count in report.ignored.items():
        out.print(f"{rule}: {count} ignored.", markup=False, soft_wrap=True)
    found = len(report.problems)
    out.print(
        f"{report.images} images of {report.patients} patients, {report.lesion_free} lesion-free, "
        f"{report.without_finding} without a finding though not called lesion-free: "
        f"{f'{found} problems' if found else 'no problem'} found.",
        markup=False,
        soft_wrap=True,
    )
