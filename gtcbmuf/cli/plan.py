"""`gtcbmuf plan`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_cluster, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "plan",
        "estimate what each method costs on a cluster",
        "gtcbmuf plan --workers 128 --parameters 5.6e6 --cluster cluster.toml",
        "gtcbmuf plan --workers 64 --parameters 5.6e6 --cluster cluster.toml --plot plan.png",
    )
    parser.add_argument(
        "--workers", type=int, required=True, metavar="N", help="number of workers to plan for"
    )
    add_cluster(parser)
    parser.add_argument(
        "--workers-per-host",
        type=int,
        metavar="N",
        help="workers on each host (default: as in the cluster file)",
    )
    parser.add_argument(
        "--parameters",
        type=float,
        required=True,
        metavar="N",
        help="parameters of the model, such as 5.6e6",
    )
    parser.add_argument(
        "--minibatch",
        type=int,
        default=256,
        metavar="FRAMES",
        help="frames per worker and step (default: 256)",
    )
    parser.add_argument(
        "--density",
        type=float,
        default=1e-3,
        metavar="SHARE",
        help="share of the parameters that gtc and top-k send in a step (default: 0.001)",
    )
    parser.add_argument(
        "--period", type=int, default=50, metavar="STEPS", help="steps in a block (default: 50)"
    )
    parser.add_argument(
        "--group-size",
        type=int,
        metavar="M",
        help="workers in a group of the hybrid (default: the fastest)",
    )
    parser.add_argument(
        "--step",
        type=float,
        default=2.0,
        metavar="STEP",
        help="quantisation step of a block's change, block_filter.step (default: 2)",
    )
    parser.add_argument(
        "--delay",
        type=int,
        default=0,
        metavar="STEPS",
        help="steps until a block's result arrives, block_filter.delay (default: 0)",
    )
    parser.add_argument(
        "--bits",
        type=int,
        default=32,
        choices=(32, 16, 8),
        help="bits of a number in sync-sgd's sums, exchange.bits (default: 32)",
    )
    parser.add_argument(
        "--overlap", action="store_true", help="plan for sync-sgd with exchange.overlap = true"
    )
    parser.add_argument(
        "--hours",
        type=float,
        default=1000.0,
        metavar="HOURS",
        help="hours of speech in the corpus (default: 1000)",
    )
    parser.add_argument(
        "--epochs", type=int, default=10, metavar="N", help="epochs of training (default: 10)"
    )
    parser.add_argument(
        "--most",
        type=int,
        default=10_000,
        metavar="N",
        help="largest number of workers in the table of speed-ups (default: 10000)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="plot the speed-ups over the workers"
    )
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
        bits=arguments.bits,
        block_step=arguments.step,
        delay=arguments.delay,
        overlap=arguments.overlap,
    )
    workers, most = arguments.workers, arguments.most
    check_plan(plan, workers, most=most, hours=arguments.hours, epochs=arguments.epochs)
    numbers = plan.worker_counts(workers, most)
    if arguments.plot:
        plot_speed_ups(plan, numbers, arguments.plot)
    speech = arguments.hours * arguments.epochs
    print(format_methods(plan, workers, speech))
    print(f"\n{format_speed_ups(plan, numbers)}")
    print(f"\n{format_caveats(plan, workers, speech)}")
