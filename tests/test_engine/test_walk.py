"""Check the order and the keys of a walk over a config."""

from mmengine.config import ConfigDict

from swav_plugin.engine.walk import walk_config


def test_all_nodes_outer_ones_first() -> None:
    shared = dict(type='A')
    cfg = ConfigDict(x=[shared, (shared, 'text')], y=dict(z=None), empty=[])
    walked = [('.'.join(keys), node) for keys, node in walk_config(cfg)]
    assert walked == [
        ('', cfg),
        ('x', cfg.x),
        ('x.0', shared),
        ('x.0.type', 'A'),
        ('x.1', (shared, 'text')),
        ('x.1.0', shared),
        ('x.1.0.type', 'A'),
        ('x.1.1', 'text'),
        ('y', dict(z=None)),
        ('y.z', None),
        ('empty', []),
    ]


def test_a_key_with_a_dot_is_one_key() -> None:
    cfg = dict(custom_keys={'backbone.lr': 1})
    assert [keys for keys, _ in walk_config(cfg)][-1] == (
        'custom_keys',
        'backbone.lr',
    )
