"""The networks' named sizes. No torch here: planning a run reads them, too."""

RANDAR: dict[str, dict[str, int]] = {
    "B": {"layers": 12, "heads": 12, "width": 768},
    "L": {"layers": 24, "heads": 16, "width": 1024},
    "XL": {"layers": 36, "heads": 20, "width": 1280},
}

RAR: dict[str, dict[str, int]] = {
    "B": {"layers": 24, "heads": 16, "width": 768, "hidden": 3072},
    "L": {"layers": 24, "heads": 16, "width": 1024, "hidden": 4096},
    "XL": {"layers": 32, "heads": 16, "width": 1280, "hidden": 5120},
    "XXL": {"layers": 40, "heads": 16, "width": 1408, "hidden": 6144},
}

# Released in one size, which its authors give no letter.
MASKGIT: dict[str, dict[str, int]] = {
    "B": {"layers": 24, "heads": 16, "width": 768, "hidden": 3072},
}

DIT: dict[str, dict[str, int]] = {
    "S": {"layers": 12, "heads": 6, "width": 384},
    "B": {"layers": 12, "heads": 12, "width": 768},
    "L": {"layers": 24, "heads": 16, "width": 1024},
    "XL": {"layers": 28, "heads": 16, "width": 1152},
}
