"""Speed beside the rivals, and load tests against the latency target."""
