"""The decision log: every decision as a line of JSON, written before its answer leaves."""
