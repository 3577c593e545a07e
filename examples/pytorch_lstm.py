"""The two tiers around an LSTM of PyTorch, with `gtcbmuf.Worker` as the training loop.

The task: which of 8 features was the largest two frames ago? Install PyTorch (`pip install torch`),
and run the example on 4 ranks, which form 2 groups of 2 workers:

    mpirun -n 4 python examples/pytorch_lstm.py

It takes 5 seconds on 2 cores and prints

    frame error rate 10.9 %, chance is 87.5 %
"""

import numpy as np
import torch

import gtcbmuf


class Recogniser(torch.nn.Module):
    """An LSTM, and a layer that scores the targets."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(8, 32, batch_first=True)
        self.scores = torch.nn.Linear(32, 8)

    def forward(self, features):
        return self.scores(self.lstm(features)[0])


def flatten(network):
    """Make all parameters views of one vector, and their gradients views of another."""
    model = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    gradient = torch.zeros_like(model)
    first = 0
    for parameter in network.parameters():
        part = slice(first, first + parameter.numel())
        parameter.data = model[part].view_as(parameter)
        parameter.grad = gradient[part].view_as(parameter)
        first = part.stop
    return model.numpy(), gradient.numpy()


def utterances(stream, number):
    """Draw noise, and for each frame the index of the largest feature two frames ago."""
    features = stream.normal(size=(number, 20, 8)).astype(np.float32)
    targets = np.roll(features.argmax(2), 2, axis=1)[:, 2:]
    return torch.from_numpy(features), torch.from_numpy(targets)


with gtcbmuf.job() as world:  # an exception on one rank ends the job on all ranks
    torch.set_num_threads(1)  # ranks share the cores
    torch.manual_seed(0)
    topology = gtcbmuf.Topology(world, group_size=2)
    stream = np.random.default_rng(world.rank)  # each worker has data of its own
    network = Recogniser()
    model, gradient = flatten(network)
    topology.broadcast(model)  # all workers start with the bits of rank 0

    def gradient_of_a_minibatch(step):
        features, targets = utterances(stream, 16)
        gradient[:] = 0
        scores = network(features)[:, 2:]
        torch.nn.functional.cross_entropy(scores.mT, targets, reduction="sum").backward()
        return gradient

    exchange = gtcbmuf.GTCExchange(topology.group, model.size, tau=1.0)
    block_filter = gtcbmuf.BMUF(topology, model, nesterov=True)
    worker = gtcbmuf.Worker(model, exchange, block_filter, period=10)
    worker.run(600, gradient_of_a_minibatch, lambda step: 2e-3)

    model[:] = block_filter.anchor(model)  # collective: all ranks call it
    features, targets = utterances(np.random.default_rng(99), 100)
    wrong = (network(features)[:, 2:].argmax(2) != targets).float().mean()
    if world.rank == 0:
        print(f"frame error rate {100 * wrong:.1f} %, chance is 87.5 %")
