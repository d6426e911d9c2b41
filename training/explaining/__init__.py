"""Makes what a bundle holds to give reasons: the table of contributions, the concepts and their words."""
