"""What uvicorn's connections are made to do: accept many at once, keep limits and clocks, refuse early."""
