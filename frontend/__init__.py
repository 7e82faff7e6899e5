"""What users write: tensors and functions, modules, losses, optimisers, data and training."""
