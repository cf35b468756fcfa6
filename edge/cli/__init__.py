"""The command `sostenuto`: thin programs around what the other modules do."""
