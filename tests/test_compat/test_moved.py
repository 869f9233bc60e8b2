"""Old import paths and arguments work, and warn."""

import importlib
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

import swav_plugin
from swav_plugin.compat.moved import MOVED, renamed_arguments
from tests.conftest import REPO_ROOT

MODULES = {old: new for old, new in MOVED.items() if ':' not in old}
NAMES = {old: new for old, new in MOVED.items() if ':' in old}

# What version 0.1.0 promised: what its packages list, what its documents name
# and what was renamed since; by the modules that it had.
VERSION_0_1 = {
    'swav_plugin': '__version__',
    'swav_plugin.compat.checkpoint_keys': 'convert_state_dict load_backbone '
    'load_model load_shared_head read_checkpoint',
    'swav_plugin.compat.stack': 'setup_stack',
    'swav_plugin.datasets': 'ImageBatch ImageFolder KeyedSampler SampleKey '
    'VOC07 collate_views transforms',
    'swav_plugin.datasets.check': 'NAMES Known Report Split check read_coco',
    'swav_plugin.datasets.collate': 'ImageBatch collate_views',
    'swav_plugin.datasets.export': 'new_folder write_class_folders write_list',
    'swav_plugin.datasets.image_folder': 'ImageFolder',
    'swav_plugin.datasets.sampler': 'KeyedSampler SampleKey',
    'swav_plugin.datasets.transforms': 'ColorJitter GaussianBlur Lighting '
    'LoadImage MultiCrop MultiView PackViews RandomCrop RandomFlip '
    'RandomGrayscale RandomResizedCrop RandomRotation RandomTransform '
    'UnreadableImage read_rgb sample_rng',
    'swav_plugin.datasets.transforms.crop': 'RandomCrop RandomFlip '
    'RandomResizedCrop RandomRotation',
    'swav_plugin.datasets.transforms.encoded_image': 'EncodedImage',
    'swav_plugin.datasets.transforms.formatting': 'PackViews',
    'swav_plugin.datasets.transforms.fused_ops': 'cut_views',
    'swav_plugin.datasets.transforms.loading': 'LoadImage UnreadableImage '
    'read_rgb',
    'swav_plugin.datasets.transforms.multi_crop': 'MultiCrop',
    'swav_plugin.datasets.transforms.multi_view': 'MultiView',
    'swav_plugin.datasets.transforms.photometric': 'ColorJitter GaussianBlur '
    'Lighting RandomGrayscale',
    'swav_plugin.datasets.transforms.randomness': 'RandomTransform sample_rng',
    'swav_plugin.datasets.transforms.whole_image': 'WholeImage',
    'swav_plugin.datasets.voc07': 'VOC07',
    'swav_plugin.engine': 'AtomicBackend CPUAmpOptimWrapper '
    'CPUDistributedDataParallel DeferredRuntimeInfoHook LARS PicturesHook '
    'PretrainedHook ProbeOptimConstructor ResultsHook ScalarHistory '
    'SkippedImagesHook SwAVHook SwAVLogProcessor',
    'swav_plugin.engine.atomic_backend': 'AtomicBackend',
    'swav_plugin.engine.cpu': 'CPUAmpOptimWrapper CPUDistributedDataParallel',
    'swav_plugin.engine.lars': 'LARS',
    'swav_plugin.engine.launch': 'UsageError add_common_arguments '
    'check_batches check_keys check_labels check_load_from check_resume '
    'check_weights count_cores end_processes find_checkpoint find_weights '
    'init_cpu_group leave_cores_to_workers leave_cpu_group load_config '
    'mistakes_in_one_line parse_options prepare_processes run_command '
    'set_common set_launcher set_mixed_precision',
    'swav_plugin.engine.log_processor': 'SwAVLogProcessor',
    'swav_plugin.engine.pictures_hook': 'PicturesHook',
    'swav_plugin.engine.pretrained_hook': 'PretrainedHook',
    'swav_plugin.engine.probe_optim': 'ProbeOptimConstructor',
    'swav_plugin.engine.results_hook': 'ResultsHook',
    'swav_plugin.engine.runtime_info_hook': 'DeferredRuntimeInfoHook '
    'ScalarHistory',
    'swav_plugin.engine.skipped_images_hook': 'SkippedImagesHook',
    'swav_plugin.engine.swav_hook': 'SwAVHook',
    'swav_plugin.evaluation': 'FeatureEvalLoop FeatureSet KNN Labels Result '
    'TopKAccuracy VOC07SVM knn_predict low_shot_map nearest_neighbours '
    'svm_map',
    'swav_plugin.evaluation.feature_loop': 'FeatureEvalLoop',
    'swav_plugin.evaluation.feature_store': 'FeatureSet Labels Result',
    'swav_plugin.evaluation.knn': 'KNN knn_predict nearest_neighbours',
    'swav_plugin.evaluation.svm': 'VOC07SVM low_shot_map svm_map',
    'swav_plugin.evaluation.topk_accuracy': 'TopKAccuracy',
    'swav_plugin.models': 'FeatureQueue LinearProbe MultiLinearHead '
    'MultiViewPreprocessor ResLayerExtraNorm ResNetWithStem SwAV SwAVHead '
    'SwAVNeck',
    'swav_plugin.models.data_preprocessor': 'MultiViewPreprocessor',
    'swav_plugin.models.feature_pooling': 'PAGE_WINDOWS',
    'swav_plugin.models.feature_queue': 'FeatureQueue',
    'swav_plugin.models.linear_probe': 'LinearProbe',
    'swav_plugin.models.multi_linear_head': 'MultiLinearHead',
    'swav_plugin.models.res_layer_extra_norm': 'ResLayerExtraNorm',
    'swav_plugin.models.resnet': 'ResNetWithStem',
    'swav_plugin.models.swav': 'SwAV',
    'swav_plugin.models.swav_head': 'SwAVHead',
    'swav_plugin.models.swav_loss': 'sinkhorn swapped_prediction_loss',
    'swav_plugin.models.swav_neck': 'SwAVNeck',
    'swav_plugin.registry': 'DATASETS DATA_SAMPLERS HOOKS METRICS MODELS '
    'OPTIMIZERS TRANSFORMS',
    'swav_plugin.zoo': 'checkpoint_path',
}


@pytest.mark.filterwarnings('ignore::FutureWarning')
@pytest.mark.parametrize('module', VERSION_0_1)
def test_public_names_of_version_0_1_are_found(module: str) -> None:
    found = importlib.import_module(module)
    for name in VERSION_0_1[module].split():
        assert hasattr(found, name), f'{module}.{name}'


@pytest.mark.parametrize('old, new', NAMES.items())
def test_an_old_name_is_the_new_one(old: str, new: str) -> None:
    module, _, name = old.partition(':')
    home, _, new_name = new.partition(':')
    with pytest.warns(
        FutureWarning, match=f'{module}.{name} is now {home}.{new_name};'
    ) as warned:
        found = getattr(importlib.import_module(module), name)
    assert found is getattr(importlib.import_module(home), new_name)
    assert warned[0].filename == __file__
    # Not yet renamed again, and not there under both names.
    assert new not in MOVED
    assert name not in vars(importlib.import_module(module))


def test_users_of_a_config_see_the_warnings(tmp_path: Path) -> None:
    """With Python's own filters, at a command line."""
    for number in range(2):
        folder = tmp_path / f'images/{number}'
        folder.mkdir(parents=True)
        Image.new('RGB', (32, 32)).save(folder / 'a.png')
    config = tmp_path / 'config.py'
    config.write_text(f"""
default_scope = 'swav_plugin'
custom_imports = dict(imports=['swav_plugin.zoo'])
model = dict(
    type='LinearProbe',
    backbone=dict(
        type='ResNetWithStem', depth=18, base_channels=4, stem_channels=4),
    features=['feature5'],
    windows='page',
    head=dict(type='MultiLinearHead', num_classes=2, learning_rates=[1.0]))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ImageFolder',
        data_root='{tmp_path}/images',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='RandomResizedCrop', scale=32),
            dict(type='PackViews')]))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1.0))
""")
    environment = {**os.environ, 'PYTHONPATH': str(REPO_ROOT)}
    environment.pop('PYTHONWARNINGS', None)
    ended = subprocess.run(
        [sys.executable, str(REPO_ROOT / 'tools/train.py'), str(config)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 'train.py: error: the training set has 2 images' in ended.stderr
    for old, new in (
        ('swav_plugin.zoo', 'swav_plugin.checkpoints.zoo'),
        ("windows='page'", "'mmselfsup'"),
        ('RandomResizedCrop(scale=...)', 'size=...'),
    ):
        assert f'FutureWarning: {old} is now {new}; the' in ended.stderr


@pytest.mark.parametrize('old, new', MODULES.items())
def test_an_old_path_is_the_new_module(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f'{old} is now {new};') as got:
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == module.__spec__.name == new
    # The first import of mmcv warns about itself, too.
    assert sum(each.category is FutureWarning for each in got) == 1


def test_the_warning_names_the_line_that_imports() -> None:
    sys.modules.pop('swav_plugin.zoo', None)
    with pytest.warns(FutureWarning) as got:
        import swav_plugin.zoo  # noqa: F401
    assert got[0].filename == __file__


def test_the_old_home_of_checkpoints() -> None:
    from swav_plugin import checkpoints

    with pytest.warns(FutureWarning):
        sys.modules.pop('swav_plugin.compat.checkpoint_keys', None)
        from swav_plugin.compat.checkpoint_keys import (
            convert_state_dict,
            load_backbone,
            load_model,
            load_shared_head,
            read_checkpoint,
        )
    for function in (
        convert_state_dict,
        load_backbone,
        load_model,
        load_shared_head,
        read_checkpoint,
    ):
        assert function is getattr(checkpoints, function.__name__)


def test_other_names_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('swav_plugin.nothing')
    assert not hasattr(swav_plugin, 'nothing')


def test_a_renamed_argument() -> None:
    @renamed_arguments(colour='color')
    def paint(color: str) -> str:
        return color

    assert paint('red') == paint(color='red') == 'red'
    with pytest.warns(
        FutureWarning, match=r'paint\(colour=\.\.\.\) is now color='
    ) as got:
        assert paint(colour='blue') == 'blue'  # type: ignore[call-arg]
    assert got[0].filename == __file__
    with pytest.raises(TypeError), pytest.warns(FutureWarning):
        paint('red', colour='blue')  # type: ignore[call-arg]


class Crop:
    """Something with a renamed argument."""

    @renamed_arguments(scale='size')
    def __init__(self, size: int, ratio: float = 1.0) -> None:
        """Document."""
        self.size, self.ratio = size, ratio


def test_old_name_warns_and_wins() -> None:
    with pytest.warns(FutureWarning, match=r'Crop\(scale=...\) is now siz'):
        assert vars(Crop(scale=3)) == dict(size=3, ratio=1.0)
    with pytest.warns(FutureWarning) as caught:
        assert vars(Crop(size=5, scale=3, ratio=2.0)) == dict(
            size=3, ratio=2.0
        )
    assert caught[0].filename == __file__


def test_new_name_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert Crop(3).size == Crop(size=3).size == 3
    with pytest.raises(TypeError, match='size'):
        Crop()
    assert list(inspect.signature(Crop).parameters) == ['size', 'ratio']
    assert Crop.__init__.__doc__ == 'Document.'
