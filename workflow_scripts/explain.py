"""Rule explain: images that one of two models has right and the other wrong, with evidence."""

import argparse
from pathlib import Path

from genclass.analysis.metrics import Metrics
from genclass.data.image_list import ImageList
from genclass.jobs.devices import check_gpus, lease, requested_gpus, visible_gpus
from genclass.scripting import files, run
from genclass.sources import Manifest
from genclass.specs.spec import Spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", required=True, nargs=2, help="their names; below, in this order"
    )
    parser.add_argument("--specs", required=True, nargs=2, type=Path)
    parser.add_argument("--predictions", required=True, nargs=2, type=Path)
    parser.add_argument("--metrics", required=True, nargs=2, type=Path)
    parser.add_argument("--parts", required=True, nargs="+", help="what the one's files are for")
    parser.add_argument("--checkpoints", required=True, nargs="+", type=Path, help="manifests")
    parser.add_argument("--other-parts", required=True, nargs="+", help="of the other model")
    parser.add_argument("--other-checkpoints", required=True, nargs="+", type=Path)
    parser.add_argument("--image-list", required=True, type=Path)
    parser.add_argument("--dataset", required=True, type=Path, help="its manifest")
    parser.add_argument("--images", required=True, type=int, help="right by one model; and again")
    parser.add_argument("--thumbnails", action="store_true", help="the images may be shown")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--device", required=True, choices=["auto", "cpu", "cuda"])
    parser.add_argument("--gpu", required=True, type=int, help="the job's resource: how many")
    parser.add_argument("--gres", default="", help="the job's resource, e.g. gpu:1")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    visible = visible_gpus()
    count = check_gpus(requested_gpus(arguments.gpu, arguments.gres), visible, arguments.device)
    # Imported here: wrong GPUs are said before. Before the lease: no GPU waits for an import, and
    # CUDA starts, and looks which GPUs it may see, when it is first used.
    import torch

    from genclass.gallery.explain import Images, ModelSide, explain, read_predictions
    from genclass.jobs.worker import choose_device

    torch.set_num_threads(arguments.threads)
    specs = [Spec.read(spec) for spec in arguments.specs]
    for spec in specs:
        spec.system.import_libraries()
    with lease(visible, min(count, 1)) as gpus:
        given = (
            files(arguments.parts, arguments.checkpoints),
            files(arguments.other_parts, arguments.other_checkpoints),
        )
        predictions = [
            read_predictions(path, Metrics.read(metrics))
            for path, metrics in zip(arguments.predictions, arguments.metrics, strict=True)
        ]
        one, other = (
            ModelSide(model, spec, paths, answers)
            for model, spec, paths, answers in zip(
                arguments.models, specs, given, predictions, strict=True
            )
        )
        bundle = explain(
            (one, other),
            Images(
                ImageList.read(arguments.image_list),
                Path(Manifest.read(arguments.dataset).path),
                arguments.thumbnails,
            ),
            arguments.images,
            choose_device("cuda" if gpus and arguments.device != "cpu" else "cpu"),
            arguments.output,
        )
    print(f"{len(bundle['entries'])} images explained")


if __name__ == "__main__":
    run(main)
