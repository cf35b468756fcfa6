"""From Debian's packages to a card a piano starts from: same inputs, same bytes."""
