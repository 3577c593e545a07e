"""A network of your own as one class for `gtcbmuf.train`: softmax regression.

The class has the members of `gtcbmuf.Model`. Make a corpus, and run the example on 4 ranks:

    gtcbmuf corpus synth --preset small --hours 0.5 --out corpus/quickstart.h5
    mpirun -n 4 python examples/own_model.py

It takes a minute on 2 cores. It trains and saves runs/softmax/model.h5, scores it, and prints

    FER 68.32 %, 95 % interval over utterances 66.33 to 70.20

There are 147 targets. Softmax regression is a weak model: the MLP has 45 %.
"""

import numpy as np

import gtcbmuf


class Softmax:
    """One layer of weights, without biases."""

    context = 1  # frames on each side that the inputs need

    def __init__(self, feature_dim, targets, capacity):
        self.shapes = [(3 * feature_dim, targets)]
        self.parameters = 3 * feature_dim * targets
        self.gradient = np.zeros(self.parameters, np.float32)

    def initial(self, stream):
        return stream.normal(0, 0.1, self.parameters).astype(np.float32)

    def scores(self, vector, inputs):
        return inputs @ vector.reshape(self.shapes[0])

    def backward(self, vector, inputs, targets, ready=lambda first: None):
        scores = self.scores(vector, inputs)
        scores -= scores.max(axis=1, keepdims=True)
        posteriors = np.exp(scores)
        posteriors /= posteriors.sum(axis=1, keepdims=True)
        rows = np.arange(len(inputs))
        loss = -np.log(posteriors[rows, targets]).sum()
        posteriors[rows, targets] -= 1
        self.gradient[:] = (inputs.T @ posteriors).ravel()  # summed over the minibatch
        return float(loss)


CORPUS = "corpus/quickstart.h5"
RUN = "runs/softmax"

with gtcbmuf.job() as world:
    settings = [f"corpus.path={CORPUS}", "train.epochs=2", "train.learning_rate=5e-3"]
    settings += ["topology.group_size=2", "exchange.tau=1"]
    gtcbmuf.train("gtc-bmuf", settings, RUN, world=world, build=Softmax, resume=True)
    gtcbmuf.score(world, f"{RUN}/model.h5", CORPUS, build=Softmax)
