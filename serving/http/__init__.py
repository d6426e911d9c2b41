"""HTTP around the contract: one boundary around every request, the GET routes, and the short way to BentoML's API methods."""
