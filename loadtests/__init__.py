"""Benchmarks against other servers, and load tests against the latency target."""
