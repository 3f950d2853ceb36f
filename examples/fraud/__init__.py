"""Card fraud: a simulated stream of card transactions, three versions of a model, and the demo that tells the story."""
