"""From Debian's packages to a card that a piano starts from: the same bytes from the same inputs."""
