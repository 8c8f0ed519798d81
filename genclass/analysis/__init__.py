"""From merged scores to numbers: accuracies, intervals, paired tests, efficiency."""
