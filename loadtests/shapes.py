"""The load over time of each test."""

# a list of stages: seconds, users, users to start per second
SHAPES: dict[str, list[tuple[int, int, float]]] = {
    "smoke": [(3, 5, 5)],
    "steady": [(30, 20, 20)],
    "ramp": [(10, 5, 5), (10, 10, 5), (10, 20, 10), (10, 30, 10)],
    "spike": [(10, 5, 5), (10, 60, 60), (15, 5, 60)],
    "soak": [(1800, 20, 5)],
}
