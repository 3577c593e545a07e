"""The two tiers in a training loop of plain NumPy: logistic regression on synthetic data.

Run it on 4 ranks, which form 2 groups of 2 workers:

    mpirun -n 4 python examples/plain_numpy.py

It takes 2 seconds and prints

    error of the trained weights 7.1 %, of the true weights 6.0 %
    a worker sends 2.5 % of its gradient in a step
"""

import numpy as np

import gtcbmuf

PARAMETERS = 500
MINIBATCH = 32
STEPS = 1000
PERIOD = 20  # K, steps in a block
LEARNING_RATE = 0.003


def draw(stream, weights, number):
    """Draw inputs, each labelled by whether its weighted sum, with noise, exceeds 0."""
    inputs = stream.normal(size=(number, len(weights))).astype(np.float32)
    noise = stream.normal(0, 0.2, number)
    return inputs, inputs @ weights + noise > 0


def error(weights, inputs, labels):
    """Return the share of wrong labels, in per cent."""
    return 100 * np.mean((inputs @ weights > 0) != labels)


true_weights = np.random.default_rng(0).normal(0, PARAMETERS**-0.5, PARAMETERS)

with gtcbmuf.job() as world:  # an exception on one rank ends the job on all ranks
    topology = gtcbmuf.Topology(world, group_size=2)
    stream = np.random.default_rng([1, world.rank])  # each worker has data of its own
    model = np.zeros(PARAMETERS, np.float32)  # the same start on every worker
    meter = gtcbmuf.Meter()
    exchange = gtcbmuf.GTCExchange(topology.group, PARAMETERS, tau=8.0, meter=meter)
    block_filter = gtcbmuf.BMUF(topology, model)

    for step in range(1, STEPS + 1):
        inputs, labels = draw(stream, true_weights, MINIBATCH)
        probabilities = 1 / (1 + np.exp(-inputs @ model))
        gradient = inputs.T @ (probabilities - labels).astype(np.float32)  # a sum, not a mean
        update = exchange(gradient)  # tier 1: in the group, at every step
        update.add_to(model, -LEARNING_RATE)
        if step % PERIOD == 0:
            block_filter(model)  # tier 2: across the groups, at a block's end

    trained = block_filter.anchor(model)  # collective: all ranks call it
    if world.rank == 0:
        test = draw(np.random.default_rng(2), true_weights, 10_000)
        print(
            f"error of the trained weights {error(trained, *test):.1f} %, "
            f"of the true weights {error(true_weights, *test):.1f} %"
        )
        density = meter.updates_sent / (STEPS * PARAMETERS)
        print(f"a worker sends {100 * density:.1f} % of its gradient in a step")
