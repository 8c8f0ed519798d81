"""The networks' named sizes. No torch here: planning a run reads them, too."""

RANDAR: dict[str, dict[str, int]] = {
    "B": {"layers": 12, "heads": 12, "width": 768},
    "L": {"layers": 24, "heads": 16, "width": 1024},
    "XL": {"layers": 36, "heads": 20, "width": 1280},
}

LLAMAGEN: dict[str, dict[str, int]] = {
    "B": {"layers": 12, "heads": 12, "width": 768},
    "L": {"layers": 24, "heads": 16, "width": 1024},
    "XL": {"layers": 36, "heads": 20, "width": 1280},
    "XXL": {"layers": 48, "heads": 24, "width": 1536},
    "3B": {"layers": 24, "heads": 32, "width": 3200},
}

VAR: dict[str, dict[str, int]] = {
    f"d{depth}": {"layers": depth, "heads": depth, "width": 64 * depth}
    for depth in (16, 20, 24, 30, 36)
}
VAR_SIDES = {  # of the token maps, by the side of the image; d36 is released for 512 alone
    256: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    512: (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
}

DIT: dict[str, dict[str, int]] = {
    "S": {"layers": 12, "heads": 6, "width": 384},
    "B": {"layers": 12, "heads": 12, "width": 768},
    "L": {"layers": 24, "heads": 16, "width": 1024},
    "XL": {"layers": 28, "heads": 16, "width": 1152},
}
