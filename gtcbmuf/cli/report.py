"""`gtcbmuf report`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        "compare finished runs in a table, a plot or an HTML page",
        "gtcbmuf report runs/sgd runs/hybrid --html runs/report.html",
        "gtcbmuf report runs/quick/error-table --plot runs/fer.png",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="run directory, or a folder of run directories: all finished runs in it",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="plot the valid FER over epochs"
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE.html",
        help="write one page with table, curves, differing keys and environments",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the table, draw the plot, write the page."""
    from gtcbmuf.studies.report import format_report, plot_report, read_runs
    from gtcbmuf.studies.report_page import check_page, write_page

    if arguments.html:
        check_page(arguments.html)
    runs = read_runs(arguments.runs)
    print(format_report(runs))
    if arguments.plot:
        plot_report(runs, arguments.plot)
    if arguments.html:
        write_page(runs, arguments.html)
