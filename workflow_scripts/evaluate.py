"""Rule evaluate: the scores of one shard."""

import argparse
from pathlib import Path

from genclass.data.image_list import ImageList
from genclass.jobs.devices import check_gpus, lease, requested_gpus, visible_gpus
from genclass.jobs.job_log import print_head
from genclass.scores.shards import Shard
from genclass.scripting import files, run
from genclass.sources import Manifest
from genclass.specs.spec import Spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=Path)
    parser.add_argument("--shard", required=True, help="e.g. images-00000-00049.trials-000-019")
    parser.add_argument("--image-list", required=True, type=Path)
    parser.add_argument("--dataset", required=True, type=Path, help="its manifest")
    parser.add_argument("--parts", required=True, nargs="+", help="what checkpoints are for")
    parser.add_argument("--checkpoints", required=True, nargs="+", type=Path, help="manifests")
    parser.add_argument("--partial", required=True, type=Path, help="folder of partial files")
    parser.add_argument("--compiled", required=True, type=Path, help="folder of compiled code")
    parser.add_argument("--class-batch", required=True, type=int)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--device", required=True, choices=["auto", "cpu", "cuda"])
    parser.add_argument("--gpu", required=True, type=int, help="the job's resource: how many")
    parser.add_argument("--gres", default="", help="the job's resource, e.g. gpu:1")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    shard = Shard.from_name(arguments.shard)
    spec = Spec.read(arguments.spec).of(shard)
    wanted = requested_gpus(arguments.gpu, arguments.gres)
    visible = visible_gpus()
    print_head(spec, shard, wanted, visible, arguments.device)
    count = check_gpus(wanted, visible, arguments.device)
    # Imported here: wrong GPUs are said before. Before the lease: no GPU waits for an import, and
    # CUDA starts, and looks which GPUs it may see, when it is first used.
    import torch

    from genclass.jobs.evaluate import evaluate
    from genclass.jobs.worker import Job, choose_device

    torch.set_num_threads(arguments.threads)
    spec.system.import_libraries()
    with lease(visible, count) as gpus:
        job = Job(
            spec=spec,
            shard=shard,
            image_list=ImageList.read(arguments.image_list),
            folder=Path(Manifest.read(arguments.dataset).path),
            files=files(arguments.parts, arguments.checkpoints),
            partial=arguments.partial,
            compiled=arguments.compiled,
            device=choose_device("cuda" if gpus and arguments.device != "cpu" else "cpu"),
            class_batch=arguments.class_batch,
        )
        evaluate(job, arguments.output, gpus)


if __name__ == "__main__":
    run(main)
