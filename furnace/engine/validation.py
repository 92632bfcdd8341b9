"""Scores on the validation list while training goes on (``C.eval_every``); the paper's protocol has none."""

import logging
from collections.abc import Callable

from furnace.datasets.classes import Classes
from furnace.engine.config import Config, plain
from furnace.engine.curves import Curves
from furnace.engine.distributed import World
from furnace.engine.evaluator import Evaluator
from furnace.engine.precision import kernels_tried_out
from furnace.seg_opr.metric import scores


class Validation:
    """Scores branch 1 after every ``C.eval_every``-th epoch and after the last, and remembers the best.

    Args:
        config: the experiment's configuration.
        evaluator: of the network that is trained; its list is the one that the best is chosen on.
        classes: names for the log.
        world: the processes that evaluate together.
    """

    def __init__(self, config: Config, evaluator: Evaluator, classes: Classes, world: World):
        self.config, self.evaluator, self.classes, self.world = config, evaluator, classes, world
        self.last: dict | None = None
        self.best: dict | None = None

    def due(self, iteration: int) -> bool:
        """Whether the epoch that ends with ``iteration`` is to be scored and was not."""
        C = self.config
        epoch, rest = divmod(iteration, C.niters_per_epoch)
        if rest or not epoch or (self.last and self.last['iteration'] == iteration):
            return False
        return epoch % C.eval_every == 0 or epoch == C.nepochs

    def score(self, iteration: int, stopped: Callable[[], bool], curves: Curves, logger: logging.Logger) -> bool | None:
        """Evaluate; returns whether this is the best so far, None where ``stopped`` ended it before the end."""
        epoch = iteration // self.config.niters_per_epoch - 1
        with kernels_tried_out(not self.config.eval_whole):
            confusion = self.evaluator.confusion(1, f'epoch {epoch}', stopped=stopped)
        if confusion is None:
            return None
        result = scores(confusion)
        self.last = {'epoch': epoch, 'iteration': iteration, 'mean_iou': result.mean_iou}
        curves.add_scores(iteration, result, self.classes.names)
        better = self.best is None or not result.mean_iou <= self.best['mean_iou']
        if better:
            self.best = self.last
        logger.info('epoch %d on %s: mean IoU %.2f, %s', epoch, self.config.eval_source, 100 * result.mean_iou,
                    'the best so far' if better else f'best {self._text(self.best)}')  # fmt: skip
        return better

    def summary(self) -> str:
        """Last and best, told apart."""
        return (
            f'last: {self._text(self.last)}; best: {self._text(self.best)}, which was chosen on the same images '
            'and so flatters: say which one you report'
        )

    @staticmethod
    def _text(score: dict) -> str:
        return f'{100 * score["mean_iou"]:.2f} (epoch {score["epoch"]})'

    def state_dict(self) -> dict:
        """Plain values, for a checkpoint."""
        return {'last': self.last, 'best': self.best, 'protocol': self._protocol()}

    def load_state_dict(self, state: dict) -> None:
        """The best counts on only where it was found under the same settings."""
        self.last = state['last']
        self.best = state['best'] if state['protocol'] == self._protocol() else None

    def _protocol(self) -> dict:
        """What scores depend on beside the network."""
        names = [name for name in self.config if name.startswith('eval_') and name != 'eval_every']
        return plain({name: self.config[name] for name in names})
