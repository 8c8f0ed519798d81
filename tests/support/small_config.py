"""The smallest config: one model, one dataset, one table."""

from typing import Any

SMALL: dict[str, Any] = {
    "results": "results/small",
    "checkpoints": {"weights": {"places": ["file:w.pt"], "licence": "MIT"}},
    "datasets": {
        "digits": {"title": "Digits", "places": ["file:d"], "licence": "MIT", "images": 7}
    },
    "models": {
        "ours": {
            "title": "Ours",
            "network": {"architecture": "randar", "checkpoint": "weights", "size": "L"},
            "encoder": {"architecture": "llamagen_vq", "checkpoint": "weights"},
            "trials": 20,
        }
    },
    "evaluations": [{"models": ["ours"], "datasets": ["digits"]}],
    "report": {
        "title": "Small",
        "tables": {
            "main": {
                "kind": "accuracy",
                "title": "Main",
                "rows": [{"model": "ours"}],
                "columns": ["digits"],
            }
        },
    },
}
