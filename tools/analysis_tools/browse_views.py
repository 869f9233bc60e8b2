"""Write pictures of the views that a training gets of its images.

    browse_views.py CONFIG -o views -n 20

One PNG for each image: the image, then its views in the first epoch, after
all transforms and with the normalization undone. The images are spread evenly
over the set.
"""

import argparse
from pathlib import Path

from swav_plugin.commands.pretrained import check_numbers, mistakes
from swav_plugin.datasets.browse import side_by_side
from swav_plugin.engine.browse import views_of_config
from swav_plugin.engine.config import check_has, load_config
from swav_plugin.engine.data_folder import set_data
from swav_plugin.engine.launch import config_parser, named_path, run_command


def browse(args: argparse.Namespace) -> None:
    """Write the pictures into the folder."""
    check_numbers(args, show_number=1)
    cfg = load_config(args.config, args.cfg_options)
    check_has(cfg, 'model', f'{args.phase}_dataloader')
    set_data(cfg, args, args.phase)
    folder = Path(named_path('--output-dir', args.output_dir))
    with mistakes():
        for seen in views_of_config(cfg, args.show_number, args.phase):
            photo = seen.photo() if args.mode == 'concat' else None
            pictures = [] if photo is None else [photo]
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f'{seen.index:06}-{Path(seen.file).stem}.png'
            side_by_side([*pictures, *seen.views]).save(path)
            print(path)


def main(argv: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends in one line."""
    parser = config_parser(__doc__)
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='where the data of the config is, as swav train takes it',
    )
    parser.add_argument(
        '-o',
        '--output-dir',
        metavar='DIR',
        default='views',
        help='folder for the pictures (default: views)',
    )
    parser.add_argument(
        '-n',
        '--show-number',
        metavar='N',
        type=int,
        default=10,
        help='how many images (default: 10)',
    )
    parser.add_argument(
        '-p',
        '--phase',
        choices=['train', 'val', 'test'],
        default='train',
        help='the dataloader to look at (default: train)',
    )
    parser.add_argument(
        '-m',
        '--mode',
        choices=['concat', 'transformed'],
        default='concat',
        help='the image and its views, or its views alone (default: concat)',
    )
    run_command(browse, parser.parse_args(argv))


if __name__ == '__main__':
    main()
