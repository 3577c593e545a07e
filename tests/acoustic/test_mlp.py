"""The MLP against PyTorch, finite differences and its documentation."""

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.data.corpus import Split
from gtcbmuf.data.minibatches import FrameReader

Batch = tuple[NDArray[np.float32], NDArray[np.uint16]]

SHAPES = [
    Architecture((5, 3), "relu"),
    Architecture((6, 7, 4), "relu"),
    Architecture((6, 7, 4), "sigmoid"),
    Architecture((3, 8, 1, 5, 2), "relu"),
    Architecture((3, 8, 1, 5, 2), "sigmoid"),
]


def name(shape: Architecture) -> str:
    return f"{shape.activation}-{'-'.join(map(str, shape.widths))}"


every_shape = pytest.mark.parametrize("shape", SHAPES, ids=name)


def random_parameters(shape: Architecture, seed: int = 0) -> NDArray[np.float32]:
    """Draw parameters with random biases. `initial` sets the biases to 0."""
    return np.random.default_rng(seed).normal(0, 0.7, shape.parameters).astype(np.float32)


def random_batch(shape: Architecture, frames: int, seed: int = 1) -> Batch:
    stream = np.random.default_rng(seed)
    inputs = stream.normal(size=(frames, shape.widths[0])).astype(np.float32)
    return inputs, stream.integers(0, shape.widths[-1], frames).astype(np.uint16)


def torch_scores(
    shape: Architecture, parameters: torch.Tensor, inputs: torch.Tensor
) -> torch.Tensor:
    """Compute the forward pass from the flat vector, laid out as in the module's docstring."""
    activation = {"relu": torch.relu, "sigmoid": torch.sigmoid}[shape.activation]
    hidden, rest = inputs, parameters
    for layer, (n_in, n_out) in enumerate(zip(shape.widths, shape.widths[1:], strict=False)):
        weights, biases, rest = torch.split(
            rest, [n_in * n_out, n_out, len(rest) - n_in * n_out - n_out]
        )
        hidden = hidden @ weights.reshape(n_in, n_out) + biases
        if layer < len(shape.widths) - 2:
            hidden = activation(hidden)
    assert len(rest) == 0
    return hidden


@every_shape
@pytest.mark.parametrize("frames", [1, 2, 17])
def test_loss_and_gradient_equal_pytorch(shape: Architecture, frames: int) -> None:
    parameters, (inputs, targets) = random_parameters(shape), random_batch(shape, frames)
    mlp = MLP(shape, 17)
    scores = mlp.scores(parameters, inputs).copy()
    loss = mlp.backward(parameters, inputs, targets)

    leaf = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
    expected_scores = torch_scores(shape, leaf, torch.tensor(inputs, dtype=torch.float64))
    expected = torch.nn.functional.cross_entropy(
        expected_scores, torch.tensor(targets.astype(np.int64)), reduction="sum"
    )
    expected.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    np.testing.assert_allclose(scores, expected_scores.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(mlp.gradient, leaf.grad.numpy(), rtol=1e-4, atol=1e-5)


def loss64(shape: Architecture, parameters: NDArray[np.float64], batch: Batch) -> float:
    """Compute the summed cross-entropy in float64 with NumPy."""
    hidden, begin = batch[0].astype(np.float64), 0
    for layer, (n_in, n_out) in enumerate(zip(shape.widths, shape.widths[1:], strict=False)):
        middle, end = begin + n_in * n_out, begin + n_in * n_out + n_out
        hidden = hidden @ parameters[begin:middle].reshape(n_in, n_out) + parameters[middle:end]
        if layer < len(shape.widths) - 2:
            relu = shape.activation == "relu"
            hidden = np.maximum(hidden, 0) if relu else 1 / (1 + np.exp(-hidden))
        begin = end
    loss = 0.0
    for scores, target in zip(hidden, batch[1], strict=True):
        loss += np.log(np.sum(np.exp(scores))) - scores[target]
    return float(loss)


@every_shape
def test_gradient_is_the_central_difference_of_the_loss(shape: Architecture) -> None:
    parameters, batch = random_parameters(shape), random_batch(shape, 4)
    mlp = MLP(shape, 4)
    assert mlp.backward(parameters, *batch) == pytest.approx(
        loss64(shape, parameters.astype(np.float64), batch), rel=1e-5
    )
    step = 1e-6
    differences = np.empty(shape.parameters)
    for i in range(shape.parameters):
        above, below = parameters.astype(np.float64), parameters.astype(np.float64)
        above[i] += step
        below[i] -= step
        differences[i] = (loss64(shape, above, batch) - loss64(shape, below, batch)) / (2 * step)
    np.testing.assert_allclose(mlp.gradient, differences, rtol=1e-4, atol=1e-5)


@every_shape
def test_a_minibatch_gives_the_sum_over_its_frames(shape: Architecture) -> None:
    parameters, (inputs, targets) = random_parameters(shape), random_batch(shape, 9)
    mlp = MLP(shape, 9)
    loss, gradient = 0.0, np.zeros(shape.parameters)
    for frame in range(9):
        part = slice(frame, frame + 1)
        loss += mlp.backward(parameters, inputs[part], targets[part])
        gradient += mlp.gradient
    assert mlp.backward(parameters, inputs, targets) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(mlp.gradient, gradient, rtol=1e-4, atol=1e-5)


@every_shape
def test_an_empty_minibatch_has_gradient_and_loss_0(shape: Architecture) -> None:
    parameters = random_parameters(shape)
    mlp = MLP(shape, 5)
    mlp.backward(parameters, *random_batch(shape, 5))
    assert mlp.gradient.any()
    assert mlp.backward(parameters, *random_batch(shape, 0)) == 0
    assert not mlp.gradient.any()
    assert mlp.scores(parameters, random_batch(shape, 0)[0]).shape == (0, shape.widths[-1])


@every_shape
def test_a_step_changes_neither_parameters_nor_minibatch(shape: Architecture) -> None:
    parameters, (inputs, targets) = random_parameters(shape), random_batch(shape, 6)
    before = parameters.copy(), inputs.copy(), targets.copy()
    mlp = MLP(shape, 8)
    loss = mlp.backward(parameters, inputs, targets)
    gradient = mlp.gradient.copy()
    for array, copy in zip((parameters, inputs, targets), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    # A step leaves no state behind that changes the next step.
    assert mlp.backward(parameters, inputs, targets) == loss
    np.testing.assert_array_equal(mlp.gradient, gradient)


def test_each_layer_has_weights_then_biases() -> None:
    shape = Architecture((2, 3, 2), "relu")
    assert shape.layers == [(2, 3), (3, 2)]
    assert shape.parameters == 6 + 3 + 6 + 2
    weights1, biases1 = [[1, 0, 2], [0, 1, -1]], [0.5, -4, 0]  # row-major, (inputs, outputs)
    weights2, biases2 = [[1, 2], [3, 4], [5, 6]], [10, 20]
    parts = [np.array(part, np.float32) for part in (weights1, biases1, weights2, biases2)]
    parameters = np.concatenate([part.ravel() for part in parts])
    # Hidden: relu(3 + 0.5, 4 - 4, 6 - 4) = (3.5, 0, 2).
    scores = MLP(shape, 1).scores(parameters, np.array([[3, 4]], np.float32))
    assert scores.tolist() == [[3.5 * 1 + 2 * 5 + 10, 3.5 * 2 + 2 * 6 + 20]]


@every_shape
def test_views_cover_the_vector_without_a_gap(shape: Architecture) -> None:
    vector = np.arange(shape.parameters, dtype=np.float32)
    views = shape.views(vector)
    assert [weights.shape for weights, _ in views] == shape.layers
    np.testing.assert_array_equal(
        np.concatenate([part.ravel() for layer in views for part in layer]), vector
    )
    for layer in views:
        for part in layer:
            part[...] = 0
    assert not vector.any()


@every_shape
def test_nan_reaches_the_loss_and_the_gradient(shape: Architecture) -> None:
    """A diverging run must be detected with any activation."""
    mlp, (inputs, targets) = MLP(shape, 3), random_batch(shape, 3)
    inputs[1] = np.nan
    assert np.isnan(mlp.backward(random_parameters(shape), inputs, targets))
    assert np.isnan(mlp.gradient).all()


def test_an_unknown_activation_is_an_error() -> None:
    with pytest.raises(ValueError, match="'tanh'"):
        Architecture((2, 2), "tanh")


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_initial_weights_are_uniform_within_their_bounds(activation: str) -> None:
    shape = Architecture((50, 200, 100, 30), activation)
    vector = initial_parameters(shape, np.random.default_rng(3))
    assert vector.dtype == np.float32
    assert vector.shape == (shape.parameters,)
    begin = 0
    for inputs, outputs in shape.layers:
        weights = vector[begin : begin + inputs * outputs]
        begin += inputs * outputs
        relu = activation == "relu" and outputs != 30
        bound = (6 / inputs) ** 0.5 if relu else (6 / (inputs + outputs)) ** 0.5
        # Of at least 3,000 draws, one is almost certainly in each outermost 0.25 %.
        assert bound * 0.995 < weights.max() <= bound * (1 + 1e-6)
        assert -bound * 0.995 > weights.min() >= -bound * (1 + 1e-6)
        assert weights.std() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert not vector[begin : begin + outputs].any()
        begin += outputs


def test_initial_parameters_depend_on_the_stream_alone() -> None:
    shape = SHAPES[1]
    first, second, other = (
        initial_parameters(shape, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("size", [1e3, 1e10, 1e30])
def test_extreme_scores_do_not_overflow(size: float) -> None:
    shape = Architecture((1, 3), "relu")
    parameters = np.array([size, 0, -size, 0, 0, 0], np.float32)
    mlp = MLP(shape, 2)
    inputs = np.ones((2, 1), np.float32)
    with np.errstate(all="raise", under="ignore"):
        loss = mlp.backward(parameters, inputs, np.array([0, 2], np.uint16))
    # Frame 0 is correct. Frame 1 is wrong by 2 size.
    assert loss == pytest.approx(2 * size, rel=1e-6)
    assert mlp.gradient.tolist() == [1, 0, -1, 1, 0, -1]


def test_extreme_sums_do_not_overflow_a_sigmoid() -> None:
    mlp = MLP(Architecture((1, 2, 2), "sigmoid"), 1)
    parameters = np.array([1e30, -1e30, 0, 0, 1, 0, 0, 1, 0, 0], np.float32)
    with np.errstate(all="raise", under="ignore"):
        scores = mlp.scores(parameters, np.ones((1, 1), np.float32)).tolist()
        loss = mlp.backward(parameters, np.ones((1, 1), np.float32), np.zeros(1, np.uint16))
    assert scores == [[1, 0]]
    assert loss == pytest.approx(np.log(1 + np.exp(-1)), rel=1e-6)
    assert np.isfinite(mlp.gradient).all()


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_a_step_allocates_no_array_of_the_size_of_a_minibatch(activation: str) -> None:
    frames, context, dim = 512, 3, 20
    stream = np.random.default_rng(0)
    split = Split(
        stream.normal(size=(5000, dim)).astype(np.float16),
        stream.integers(0, 50, 5000).astype(np.uint16),
        np.array([2000, 5000]),
        names=("a", "b"),
        speakers=("a", "b"),
    )
    shape = Architecture(((2 * context + 1) * dim, 128, 128, 50), activation)
    parameters = initial_parameters(shape, stream)
    reader, mlp = FrameReader(split, context, frames), MLP(shape, frames)
    minibatch = stream.permutation(5000)[:frames]

    def step() -> None:
        mlp.backward(parameters, *reader.gather(minibatch))

    step()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        step()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    activation_buffer = frames * 128 * 4
    assert peak - before < activation_buffer / 4


@every_shape
def test_a_ready_part_of_the_gradient_is_final(shape: Architecture) -> None:
    parameters, batch = random_parameters(shape), random_batch(shape, 5)
    mlp = MLP(shape, 5)
    parts: list[tuple[int, NDArray[np.float32]]] = []
    mlp.backward(
        parameters, *batch, lambda first: parts.append((first, mlp.gradient[first:].copy()))
    )
    assert [first for first, _ in parts] == shape.starts[-2::-1]
    for first, part in parts:
        assert part.tobytes() == mlp.gradient[first:].tobytes()
