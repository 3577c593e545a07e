"""`gtcbmuf plan`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_cluster


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan", help="what each method would cost and buy on a cluster, by a model"
    )
    parser.add_argument("--workers", type=int, required=True, metavar="N")
    add_cluster(parser)
    parser.add_argument(
        "--workers-per-host", type=int, metavar="N", help="that will run (those that calibrated)"
    )
    parser.add_argument("--parameters", type=float, required=True, metavar="n", help="of the model")
    parser.add_argument("--minibatch", type=int, default=256, help="frames of a worker (256)")
    parser.add_argument("--density", type=float, default=1e-3, help="of messages (0.001)")
    parser.add_argument("--period", type=int, default=50, help="steps of a block (50)")
    parser.add_argument("--group-size", type=int, metavar="M", help="of the hybrid (the fastest)")
    parser.add_argument("--sharded", action="store_true", help="with block_filter.sharded")
    parser.add_argument("--overlap", action="store_true", help="with exchange.overlap")
    parser.add_argument("--hours", type=float, default=1000.0, help="of speech (1000)")
    parser.add_argument("--epochs", type=int, default=10, help="(10)")
    parser.add_argument("--most", type=int, default=10_000, help="workers to look at (10000)")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="speed-ups over workers")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the plan."""
    from gtcbmuf.cluster.plan import Plan, check_plan, parse_parameters, read_cluster
    from gtcbmuf.cluster.plan_report import (
        format_caveats,
        format_methods,
        format_speed_ups,
        plot_speed_ups,
    )

    compute, network = read_cluster(
        arguments.cluster,
        arguments.network,
        elsewhere=arguments.elsewhere,
        workers_per_host=arguments.workers_per_host,
    )
    plan = Plan(
        compute,
        network,
        parameters=parse_parameters(arguments.parameters),
        minibatch=arguments.minibatch,
        density=arguments.density,
        period=arguments.period,
        group_size=arguments.group_size,
        sharded=arguments.sharded,
        overlap=arguments.overlap,
    )
    workers, most = arguments.workers, arguments.most
    check_plan(plan, workers, most=most, hours=arguments.hours, epochs=arguments.epochs)
    numbers = plan.worker_counts(workers, most)
    if arguments.plot:
        plot_speed_ups(plan, numbers, arguments.plot)
    print(format_methods(plan, workers, arguments.hours * arguments.epochs))
    print(f"\n{format_speed_ups(plan, numbers)}")
    print(f"\n{format_caveats(plan, workers)}")
