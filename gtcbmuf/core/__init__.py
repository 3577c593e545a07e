"""The paper. `algorithm` is the whole method; `wire` and `kernels` serve it."""
