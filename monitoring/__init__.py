"""Records decisions and outcomes, and measures the running service: metrics, drift, performance, alerts."""
