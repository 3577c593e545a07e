"""`gtcbmuf topology`"""

from typing import Any

from gtcbmuf.cli.common import Commands, add_command, add_config, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "topology",
        "show which workers form which group on which hosts",
        "mpirun -n 8 gtcbmuf topology gtc-bmuf --set topology.group_size=4",
        "srun --nodes=2 gtcbmuf topology gtc-bmuf --set topology.group_size=node",
    )
    add_config(parser)
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the map of the groups."""
    with job() as world:
        from gtcbmuf.mpi.hosts import host_of_rank
        from gtcbmuf.mpi.topology import describe_groups
        from gtcbmuf.training.construction import plan_run

        run = plan_run(world, arguments.config, arguments.set)
        hosts = host_of_rank(run.ranks)
        if run.ranks.rank == 0:
            print(describe_groups(hosts, run.group_size))
