"""The peers of the bench: what runs models on Kafka today, each given the same work in an environment of its own."""
