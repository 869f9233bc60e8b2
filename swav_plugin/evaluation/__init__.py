"""How good features are: protocols of the benchmark page."""

from .feature_loop import FeatureEvalLoop
from .feature_store import FeatureSet, Labels, Result
from .knn import KNN, knn_predict, nearest_neighbours
from .svm import VOC07SVM, low_shot_map, svm_map
from .topk_accuracy import TopKAccuracy

__all__ = [
    'KNN',
    'VOC07SVM',
    'FeatureEvalLoop',
    'FeatureSet',
    'Labels',
    'Result',
    'TopKAccuracy',
    'knn_predict',
    'low_shot_map',
    'nearest_neighbours',
    'svm_map',
]
