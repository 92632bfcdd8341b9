"""Plans of short studies, and made results."""

import json

SHORT = {'nepochs': 2, 'niters_per_epoch': 1, 'eval_every': 1}
VARIANTS = {'supervised': {'method': 'supervised'}, 'CPCL': {'method': 'cpcl'}}


def write_plan(folder, **changes):
    path = folder / 'plan.json'
    plan = {'experiment': 'exp_demo', 'settings': SHORT, 'variants': VARIANTS, 'ratios': [2], 'seeds': [1]}
    path.write_text(json.dumps(plan | changes))
    return path


def row(run, last, best=None, iou=None):
    scores = [{'mean_iou': value, 'iou': iou} for value in (best or last, last)]
    return {**run._asdict(), 'scores': scores, 'seconds': 1800, 'machine': {'device': 'A GPU', 'cpu': 'a CPU'}}
