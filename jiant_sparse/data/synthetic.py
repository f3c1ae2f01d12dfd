"""Small learnable versions of the seven paper tasks."""
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from jiant_sparse import seeds
from jiant_sparse.data import synthetic_texts, store
from jiant_sparse.data.tasks import PHASES, Task
SIZES = MappingProxyType({"train": 320, "val": 64, "test": 128})
SHARES = {"cola": {"1": .6, "0": .4}, "mrpc": {"1": .6, "0": .4}, "rte": {"entailment": .5, "not_entailment": .5}, "cb": {"entailment": .45, "neutral": .35, "contradiction": .2}, "copa": {0: .5, 1: .5}, "wsc": {False: .55, True: .45}, "stsb": {0.: .3, 2.:.2,3.:.2,5.:.3}}


def synthesize(data_dir: Path, tasks: Sequence[Task], *, seed: int = 0, sizes: Mapping[str, int] = SIZES) -> None:
    for task in tasks:
        g = random.Random(seeds.derive(seed, "synthetic", task.name)); make = getattr(synthetic_texts, task.like); seen=set(); idx=0; phases={}
        for phase in PHASES:
            labels=[]
            for lab, sh in SHARES[task.like].items():
                labels += [lab]*round(sh*sizes[phase])
            labels=(labels+[labels[0]]*9)[:sizes[phase]]; g.shuffle(labels); rows=[]
            for lab in labels:
                while True:
                    r=make(g, lab); key=tuple(str(v) for k,v in r.items() if k!="label")
                    if key not in seen: break
                seen.add(key); rows.append({"idx":idx,**r}); idx+=1
            phases[phase]=store.to_text(rows)
        store.publish(data_dir, task, phases)
    store.write_manifest(data_dir, tasks)
