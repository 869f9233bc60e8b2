"""A made-up suite, as its results.json holds it."""

from typing import Any


def entry(
    benchmark: str,
    subject: str,
    results: dict[str, float],
    fields: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Make an entry that is done, from values and fields by name."""
    return dict(
        benchmark=benchmark,
        subject=subject,
        status='done',
        data='imagenet',
        is_stand_in=False,
        config=f'configs/{benchmark}.py',
        notes=[],
        command=f'python test.py {benchmark}',
        seconds=75.0,
        versions=['0.2.0'],
        results=[
            dict(
                name=name,
                value=value,
                protocol=f'how {name}',
                fields=(fields or {}).get(name, {}),
            )
            for name, value in results.items()
        ],
    )


def _knn(subject: str, results: dict[str, float]) -> dict[str, Any]:
    fields = {
        f'avgpool/knn{k}_top{top}': dict(feature='avgpool', k=k, top=top)
        for k in (10, 20)
        for top in (1, 5)
    }
    return entry('knn', subject, results, fields)


def _svm() -> dict[str, Any]:
    full = dict(cost_rule='cv')
    low_shot = dict(feature='feature4', k=1)
    made = entry(
        'svm',
        'pretrained',
        {
            'feature4/svm_map': 80.5,
            'feature5/svm_map': 84.25,
            'svm_map_best_by_test': 84.25,
            'svm_map_best_by_cv': 80.5,
            'feature4/svm_k1_map_by_test': 40.0,
            'feature4/svm_k1_map_by_cv': 39.0,
        },
        {
            'feature4/svm_map': dict(
                full, feature='feature4', feature_rule=None
            ),
            'feature5/svm_map': dict(
                full, feature='feature5', feature_rule=None
            ),
            'svm_map_best_by_test': dict(
                full, feature='feature5', feature_rule='test'
            ),
            'svm_map_best_by_cv': dict(
                full, feature='feature4', feature_rule='cv'
            ),
            'feature4/svm_k1_map_by_test': dict(low_shot, cost_rule='test'),
            'feature4/svm_k1_map_by_cv': dict(low_shot, cost_rule='cv'),
        },
    )
    made['results'][2]['protocol'] = 'feature5, the best feature <by test>'
    made['results'][3]['protocol'] = 'feature4, the best feature|by folds'
    return made


def example() -> dict[str, Any]:
    """KNN of two networks, SVM of one, and two that were not measured."""
    skipped = [
        dict(
            entry('places205', subject, {}),
            status='skipped',
            reason='there is no folder data/places205',
        )
        for subject in ('pretrained', 'random')
    ]
    failed = dict(
        entry('linear', 'pretrained', {}),
        status='failed',
        reason='exit status 1\n<oom>',
    )
    return dict(
        checkpoint=dict(Checkpoint='w.pth', Network='ResNet-50'),
        setting=dict(Software='torch 2 & more'),
        subjects=dict(pretrained='net', random='random initialization'),
        entries=[
            _knn(
                'pretrained',
                {
                    'avgpool/knn10_top1': 61.25,
                    'avgpool/knn10_top5': 80.0,
                    'avgpool/knn20_top1': 60.5,
                },
            ),
            _knn('random', {'avgpool/knn10_top1': 5.0}),
            _svm(),
            *skipped,
            failed,
        ],
    )
