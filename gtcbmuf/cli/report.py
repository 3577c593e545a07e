"""`gtcbmuf report`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="make a table and a plot of finished runs")
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run directories")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="FER over epochs")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the table, draw the plot."""
    from gtcbmuf.studies.report import format_report, plot_report
    from gtcbmuf.training.run_directory import read_run

    runs = [read_run(path) for path in arguments.runs]
    print(format_report(runs))
    if arguments.plot:
        plot_report(runs, arguments.plot)
