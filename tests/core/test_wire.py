"""Messages: what is sent and what stays make up what there was; nothing foreign gets in."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gtcbmuf.core import kernels, wire


def decoded(words: NDArray[np.uint32], n: int, scale: float = 1.0) -> NDArray[np.float32]:
    """What a message says, added to zeros."""
    vector = np.zeros(n, np.float32)
    wire.Decoder(n).add(words, scale, vector)
    return vector


TAUS = st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0])
# Multiples of 1/8 below 2^10: their sums are exact in float32, so "equal" can mean equal.
EIGHTHS = st.integers(-(2**13), 2**13).map(lambda k: k / 8)


@st.composite
def vectors(draw: Any, sparse: bool = False) -> NDArray[np.float32]:
    n = draw(st.integers(1, 300))
    vector: NDArray[np.float32] = draw(
        arrays.arrays(np.float32, n, elements=EIGHTHS, fill=st.just(0.0))
    )
    if sparse:
        vector[draw(st.integers(0, n - 1)) :] = 0
    return vector


@given(vectors(), TAUS, st.integers(0, 2**32))
def test_decoded_and_residual_are_what_there_was(
    gradient: NDArray[np.float32], tau: float, seed: int
) -> None:
    n = gradient.size
    residual = np.random.default_rng(seed).integers(-80, 80, n).astype(np.float32) / 8
    before = residual.copy()
    words = wire.Encoder(n).encode(residual, gradient, tau)
    sent = decoded(words.copy(), n)
    np.testing.assert_array_equal(sent + residual, before + gradient)
    assert set(np.unique(np.abs(sent))) <= {0.0, tau}
    assert words[2] == np.count_nonzero(sent)
    assert words[3:].view(np.float32)[0] == tau


@given(vectors(), TAUS, st.integers(0, 2**32))
def test_a_backlog_is_told_beside_the_same_updates(
    gradient: NDArray[np.float32], tau: float, seed: int
) -> None:
    n = gradient.size
    residual = np.random.default_rng(seed).integers(-80, 80, n).astype(np.float32) / 8
    plain = wire.Encoder(n).encode(residual.copy(), gradient, tau)
    words = wire.Encoder(n, tells_backlog=True).encode(residual, gradient, tau)
    backlog = 2 * np.count_nonzero(np.abs(residual) >= tau) > words[2]
    rows = np.concatenate([[words.size], words]).astype(np.uint32)[np.newaxis]
    assert wire.backlogs(rows).tolist() == [backlog]
    np.testing.assert_array_equal(decoded(words, n), decoded(plain, n))
    np.testing.assert_array_equal(words[1:], plain[1:])


@given(vectors(), TAUS, st.floats(-4, 4, width=16))
def test_added_with_a_scale(gradient: NDArray[np.float32], tau: float, scale: float) -> None:
    n = gradient.size
    words = wire.Encoder(n).encode(np.zeros(n, np.float32), gradient, tau)
    scaled = np.ones(n, np.float32)
    wire.Decoder(n).add(words, scale, scaled)
    np.testing.assert_allclose(scaled, 1 + scale * decoded(words, n), rtol=1e-6)


@given(st.lists(vectors(), min_size=1, max_size=5), TAUS, st.floats(-4, 4, width=16))
def test_all_messages_are_added_in_rank_order(
    gradients: list[NDArray[np.float32]], tau: float, scale: float
) -> None:
    n = max(gradient.size for gradient in gradients)
    rows = np.full((len(gradients), 1 + wire.max_words(n)), 0xDEADBEEF, np.uint32)
    one_by_one, together = (np.full(n, 0.1, np.float32) for _ in range(2))
    for row, gradient in zip(rows, gradients, strict=True):
        gradient = np.resize(gradient, n)
        words = wire.Encoder(n).encode(np.zeros(n, np.float32), gradient, tau)
        row[0], row[1 : 1 + words.size] = words.size, words
        wire.Decoder(n).add(words, scale, one_by_one)
    wire.Decoder(n).add_all(rows, scale, together)
    assert together.tobytes() == one_by_one.tobytes()
    assert wire.counts(rows).tolist() == [row[1:][2] for row in rows]

    rows[-1, 1] = 0
    with pytest.raises(wire.WireError, match=f"from rank {len(rows) - 1}: .*format or version"):
        wire.Decoder(n).add_all(rows, scale, together)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 64, 1000])
def test_a_message_is_never_longer_than_its_bound(n: int) -> None:
    encoder = wire.Encoder(n)
    for count in {0, 1, n // 16, n // 16 + 1, n // 2, n}:
        gradient = np.zeros(n, np.float32)
        gradient[np.random.default_rng(count).permutation(n)[:count]] = -3
        words = encoder.encode(np.zeros(n, np.float32), gradient, 1.0)
        assert 4 * (words.size - wire.HEADER) <= 4 * math.ceil(n / 16)
        assert words.size <= wire.max_words(n)
        assert np.count_nonzero(decoded(words, n)) == count


def test_no_entries_is_a_header() -> None:
    residual = np.zeros(100, np.float32)
    words = wire.Encoder(100).encode(residual, np.full(100, 0.5, np.float32), 1.0)
    assert words.size == wire.HEADER
    assert not decoded(words, 100).any()
    assert (residual == 0.5).all()


def test_an_all_negative_gradient_is_sent_by_magnitude() -> None:
    residual = np.zeros(64, np.float32)
    gradient = np.where(np.arange(64) == 5, -3, -0.5).astype(np.float32)
    words = wire.Encoder(64).encode(residual, gradient, 1.0)
    np.testing.assert_array_equal(decoded(words, 64), np.where(np.arange(64) == 5, -1, 0))
    assert residual[5] == -2


@pytest.mark.parametrize("density", [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 6e-2])
def test_a_sparse_message_is_near_its_entropy(density: float) -> None:
    n, stream = 1_000_000, np.random.default_rng(0)
    signs = stream.choice([-1.0, 1.0], n)
    gradient = np.where(stream.random(n) < density, 3 * signs, 0).astype(np.float32)
    words = wire.Encoder(n).encode(np.zeros(n, np.float32), gradient, 1.0)
    count = np.count_nonzero(gradient)
    sent = count / n
    of_places = -n * (sent * math.log2(sent) + (1 - sent) * math.log2(1 - sent))
    header = 32 * wire.HEADER
    assert 1 <= (32 * words.size - header) / (of_places + count) < 1.025


def test_the_bytes_are_as_documented() -> None:
    gradient = np.zeros(80, np.float32)
    gradient[[3, 60]] = 2, -2
    words = wire.Encoder(80).encode(np.zeros(80, np.float32), gradient, 1.0)
    # k = 5, for 0.962 * 80 / 2 = 38.5. Gaps: 3, and 56 = 1 * 32 + 24.
    fields, quotients = 3 << 1 | (24 << 1 | 1) << 6, 0b101
    one = np.float32(1).view(np.uint32)
    expected = [0x47544305, 80, 2, one, fields, quotients]
    assert words.tobytes() == np.array(expected, "<u4").tobytes()

    gradient = np.ones(40, np.float32)
    gradient[0] = -1
    words = wire.Encoder(40).encode(np.zeros(40, np.float32), gradient, 1.0)
    expected = [0x4754431F, 40, 40, one, 0x55555557, 0x55555555, 0x5555]
    assert words.tobytes() == np.array(expected, "<u4").tobytes()


MESSAGE = wire.Encoder(64).encode(
    np.zeros(64, np.float32), np.where(np.arange(64) % 30 == 7, 3, 0).astype(np.float32), 1.0
)


@pytest.mark.parametrize(
    ("position", "word", "says"),
    [
        (0, 0x47544320, "format or version"),
        (0, 0, "format or version"),
        (0, 0x47544303, "form 3"),
        (0, 0x4754431F, "form 31"),
        (1, 65, "65 parameters reached a model of 64"),
        (2, 1, "in form"),
        (2, 3, "none of 3 updates"),
        (2, 2**32 - 1, "updates of 64 parameters"),
        (3, 0, "tau"),
        (3, int(np.float32(np.nan).view(np.uint32)), "tau"),
        (3, int(np.float32(np.inf).view(np.uint32)), "tau"),
        (3, int(np.float32(-1).view(np.uint32)), "tau"),
        (4, 2**32 - 1, "none of 2 updates below 64"),
        (5, 0, "none of 2 updates below 64"),
        (5, 1 << 31, "none of 2 updates below 64"),
    ],
)
def test_a_foreign_word_is_refused(position: int, word: int, says: str) -> None:
    words = MESSAGE.copy()
    before = decoded(words, 64)
    words[position] = word
    vector = before.copy()
    with pytest.raises(wire.WireError, match=says):
        wire.Decoder(64).add(words, 1.0, vector)
    np.testing.assert_array_equal(vector, before)


@pytest.mark.parametrize("size", range(len(MESSAGE)))
def test_a_truncated_message_is_refused(size: int) -> None:
    with pytest.raises(wire.WireError):
        decoded(MESSAGE[:size], 64)


@given(
    st.integers(1, 80),
    st.lists(st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1)), max_size=12),
    st.booleans(),
)
def test_whatever_comes_in_stays_in_bounds(n: int, words: list[int], headed: bool) -> None:
    if headed:
        bits = int(np.float32(1).view(np.uint32))
        count = words[0] % (n + 1) if words else 0
        words = [0x47544300 + kernels.form_of(n, count), n, count, bits, *words[1:]]
    guarded = np.zeros(n + 2, np.float32)
    try:
        wire.Decoder(n).add(np.array(words, np.uint32), 1.0, guarded[1:-1])
    except wire.WireError:
        assert not guarded.any()
        return
    assert guarded[0] == guarded[-1] == 0
    assert np.count_nonzero(guarded) == words[2]


@pytest.mark.parametrize("n", [0, -1, 2**31])
def test_an_encoder_for_too_many_or_no_parameters(n: int) -> None:
    with pytest.raises(ValueError, match="parameters"):
        wire.Encoder(n)
