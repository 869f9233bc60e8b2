"""How good features are: protocols of the benchmark page."""
from .knn import knn_predict

__all__ = ['knn_predict']
