"""What turns a plan into a callable: the NumPy reference and the native backends."""
