"""The pages of the dashboard; each is a function of the person, the API and the words."""
