"""What the service talks about: pure data and rules, standard library only."""
