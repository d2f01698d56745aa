"""Finds damaged files before a sweep builds on them, so that what depended on them is done again."""

from dataclasses import replace

from ablate.plan.plan import Plan
from ablate.plan.trials import pending
from ablate.store import damage
from ablate.store.files import is_remote, is_sound, read_json
from ablate.store.scratch import abandoned, remove
from ablate.store.stage import StageFolder


def mend(plan: Plan) -> bool:
    """Set damaged files of a study aside; gives whether there were any, so that the plan must be made again.

    Verified are the checkpoints that pending trials may go on from, with their content, and the values per picture of
    finished trials. Records and files of the study were verified when the plan was made. Object storage verifies what
    it holds by itself.
    """
    store = plan.store
    if is_remote(store.root):
        return False
    todo = {trial.signature for trial in pending(plan.ready, store)}
    unfinished = [trial for trial in plan.ready if trial.signature in todo]
    begun = dict.fromkeys(signature for trial in unfinished for signature in trial.all_signatures)
    finished = dict.fromkeys(
        trial.signature for trial in plan.ready if trial.signature not in todo and not trial.pruned
    )
    remove(abandoned(store.root, (store.stage(signature).root for signature in begun)))
    mended = [_mend_checkpoint(store.stage(signature)) for signature in begun]
    return any([*mended, *(_mend_values(store.stage(signature)) for signature in finished)])


def _mend_checkpoint(folder: StageFolder) -> bool:
    is_sound(folder.checkpoint)
    return damage.set_aside(folder.checkpoint) is not None


def _mend_values(folder: StageFolder) -> bool:
    """Let the next sweep probe a trial again if its values per picture are damaged; gives whether they are."""
    read_json(folder.per_image)
    if folder.per_image not in damage.found():
        return False
    record = folder.read_record()
    if record is None:
        return False
    damage.set_aside(folder.per_image)
    folder.finish(replace(record, probes={}))
    return True
