"""HTTP: the boundary around every request, the GET routes, and the short path to BentoML's API methods."""
