"""Measure features by the protocols of mmselfsup's benchmark page."""

from swav_plugin.compat.moved import moved_names
from swav_plugin.engine.results import Result

from .feature_loop import FeatureEvalLoop
from .feature_store import FeatureProtocol, FeatureSet, Labels
from .knn import KNN, knn_predict, nearest_neighbors
from .svm import low_shot_map, svm_map
from .topk_accuracy import TopKAccuracy
from .voc07_svm import VOC07SVM

__getattr__ = moved_names(__name__)

__all__ = [
    'KNN',
    'VOC07SVM',
    'FeatureEvalLoop',
    'FeatureProtocol',
    'FeatureSet',
    'Labels',
    'Result',
    'TopKAccuracy',
    'knn_predict',
    'low_shot_map',
    'nearest_neighbors',
    'svm_map',
]
