"""The decision log: every decision as a line of JSON, on record before its answer leaves.

`writer.DecisionLog` writes it, `reader` reads it, `verify` checks its chain; `layout` and `record` define the format.
"""
