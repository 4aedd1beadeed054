"""What surrounds a network: data readers, preparation, training steps, metrics, figures and the command line."""
