"""What is fitted to a trained network afterwards, from the preprocessed cases of its training."""
