"""Many pianos: a cluster of NATS in place of one broker, and what is counted over all of them."""
