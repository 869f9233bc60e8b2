"""ReportHook: write the report of a run when it has ended."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swav_plugin.registry import HOOKS


@HOOKS.register_module()
class ReportHook(Hook):
    """Write `report.html` into the work dir at the end of a run.

    The last line of the log names the epoch with the highest stopping score,
    and its checkpoint. It is `default_hooks.report` of our recipes. At the
    start it notes what the run is (data, hardware, versions, commit) in
    `run.json` beside the log, for `swav report` to tell later. An error in the
    report is a line in the log; it ends no run.

    Args:
        max_images: Training images that the checkpoint is shown on.
        max_seconds: How long the network may take for those; it makes do
            with fewer then. The rest takes seconds, with 2,000 images up to
            half a minute.
    """

    # After CheckpointHook (VERY_LOW), which saves the end of the run.
    priority = 'LOWEST'

    def __init__(
        self, max_images: int = 2000, max_seconds: float = 30
    ) -> None:
        for name, value in dict(
            max_images=max_images, max_seconds=max_seconds
        ).items():
            if value <= 0:
                raise ValueError(
                    f'ReportHook got {name}={value}; give a number above 0, '
                    'or default_hooks.report=None for no report.'
                )
        self.max_images = max_images
        self.max_seconds = max_seconds

    def before_train(self, runner: Runner) -> None:
        """Note what the run is."""
        self._write(runner, has_ended=False)

    def after_train(self, runner: Runner) -> None:
        """Write the page."""
        self._write(runner, has_ended=True)

    def _write(self, runner: Runner, has_ended: bool) -> None:
        """Write the record and, at the end, the page; only on rank 0."""
        if not is_main_process():
            return
        # Here, so that whoever reads a config does not import all of it.
        from .history import read_history
        from .learned import Images
        from .page import write_report
        from .record import FINISHED, record_run
        from .stopping import describe_best_epoch

        try:
            record_run(runner, FINISHED if has_ended else '')
            if not has_ended:
                return
            images = Images(
                dataset=runner.train_dataloader.dataset,
                most=self.max_images,
                max_seconds=self.max_seconds,
            )
            work_dir = Path(runner.work_dir)
            path, missing = write_report(work_dir, images=images)
            best = describe_best_epoch(work_dir, read_history(work_dir))
        except (Exception, KeyboardInterrupt) as error:
            # The run has ended well, whatever happens here.
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            runner.logger.warning(f'The report was not written: {reason}')
            return
        lacks = f', without {", ".join(each.part for each in missing)}'
        runner.logger.info(f'Report: {path}{lacks * bool(missing)}')
        if best:
            runner.logger.info(f'{best[0].upper()}{best[1:]}')
